;; A program that imports what WasmEdge has as a plugin.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (import "wasi_nn" "load" (func (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasmedge_process" "wasmedge_process_run" (func (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
