//! Put together.
