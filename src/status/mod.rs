//! How are you: read-only, on the pod address.
