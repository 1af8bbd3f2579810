//! The JSON Schema of the file, for editors.
