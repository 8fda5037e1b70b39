;; A server of plain WASI, whose listening socket is the number 3. It answers each connection with what `file` holds in the
;; first folder, number 4, after which it closes it.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  ;; 0 connection, 4 file, 24 buffer { at, length }, 32 count
  (data (i32.const 1024) "HTTP/1.1 200 OK\0d\0aconnection: close\0d\0a\0d\0a")
  (data (i32.const 1100) "file")
  (data (i32.const 1200) "there is none")
  (func $say (param $at i32) (param $length i32)
    (i32.store (i32.const 24) (local.get $at))
    (i32.store (i32.const 28) (local.get $length))
    (if (call $write (i32.load (i32.const 0)) (i32.const 24) (i32.const 1) (i32.const 32)) (then (call $exit (i32.const 16)))))
  (func $hear (param $fd i32) (result i32)
    (i32.store (i32.const 24) (i32.const 8192))
    (i32.store (i32.const 28) (i32.const 4096))
    (i32.store (i32.const 32) (i32.const 0))
    (if (call $read (local.get $fd) (i32.const 24) (i32.const 1) (i32.const 32)) (then (call $exit (i32.const 15))))
    (i32.load (i32.const 32)))
  (func (export "_start")
    (loop $connections
      (if (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (then (call $exit (i32.const 14))))
      (if (call $hear (i32.load (i32.const 0))) (then
        (call $say (i32.const 1024) (i32.const 38))
        ;; Links are followed, as the C library asks for it.
        (if (call $path_open (i32.const 4) (i32.const 1) (i32.const 1100) (i32.const 4) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 4))
          (then (call $say (i32.const 1200) (i32.const 13)))
          (else
            (call $say (i32.const 8192) (call $hear (i32.load (i32.const 4))))
            (drop (call $close (i32.load (i32.const 4))))))))
      (drop (call $close (i32.load (i32.const 0))))
      (br $connections))))
