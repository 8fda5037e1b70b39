//! The sockets of a module: WasmEdge's.

pub use wasmedge_wasi_socket::{TcpListener, TcpStream, poll};
