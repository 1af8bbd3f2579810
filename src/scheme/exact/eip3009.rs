//! `transferWithAuthorization` on the token itself (EIP-3009).
