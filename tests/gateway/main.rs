//! Promises about money, held against a whole gateway through its sockets. The S-numbers are rows of SAFETY.

mod admin;
mod announced;
mod backends;
mod bodies;
mod challenge;
mod crowds;
mod doors;
mod dust;
mod failure;
mod fields;
mod grpc;
mod hostile;
mod leaving;
mod nginx;
mod paid;
mod permit2;
mod rails;
mod reload;
mod reorg;
mod replay;
mod screening;
mod shutdown;
mod tls;
mod websocket;
mod world;
