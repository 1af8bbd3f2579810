//! x402: two dialects, one vocabulary.
