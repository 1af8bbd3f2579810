//! The fuzz targets' properties, held against their committed corpora on the stable toolchain.

#[path = "fuzz/properties.rs"]
mod properties;

use std::fs;
use std::path::{Path, PathBuf};

use properties::{TARGETS, check};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

#[test]
fn every_property_holds_for_every_input_that_was_kept() {
    for (target, property) in TARGETS {
        let mut inputs: Vec<_> = fs::read_dir(corpus(target))
            .unwrap_or_else(|error| panic!("{target} has no corpus: {error}"))
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        inputs.sort();
        assert!(inputs.len() >= 5, "{target} has a corpus of {}", inputs.len());
        for input in inputs {
            let bytes = fs::read(&input).expect("a readable file");
            assert!(bytes.len() <= 32 * 1024, "{} is not small", input.display());
            let held = std::panic::catch_unwind(|| property(&bytes));
            assert!(held.is_ok(), "{} breaks the property of {target}", input.display());
        }
    }
}

/// Cheap to try here and worth it: what lies one step from an input that means something.
#[test]
fn every_property_holds_for_inputs_cut_short_and_with_a_byte_changed() {
    for (target, _) in TARGETS {
        for entry in fs::read_dir(corpus(target)).expect("a corpus") {
            let bytes = fs::read(entry.expect("a readable folder").path()).expect("a readable file");
            let step = (bytes.len() / 24).max(1);
            for at in (0..bytes.len()).step_by(step) {
                check(target, &bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 0x15;
                check(target, &changed);
            }
        }
    }
}

#[test]
fn every_target_has_a_program_and_every_program_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("the fuzz crate has a manifest");
    for (target, _) in TARGETS {
        let program = fs::read_to_string(folder.join(format!("targets/{target}.rs")));
        let calls = program.unwrap_or_default().contains(&format!("\"{target}\""));
        assert!(calls && manifest.contains(&format!("name = \"{target}\"")), "{target} is not built");
    }
    let programs = fs::read_dir(folder.join("targets")).expect("a folder").count();
    assert_eq!(programs, TARGETS.len());
}
