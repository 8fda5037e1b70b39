;; A server of plain WASI: its listening socket is the number 3, it waits for it, and it reads and writes connections as
;; files. It answers `3` and the number of folders that it finds behind the socket.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $set_flags (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  ;; 0 connection, 24 buffer { at, length }, 32 count, 64 subscription, 128 event, 192 prestat
  (data (i32.const 1024) "HTTP/1.1 200 OK\0d\0acontent-length: 2\0d\0aconnection: close\0d\0a\0d\0a30")
  (func $wait (param $fd i32)
    (i32.store8 (i32.const 72) (i32.const 1))
    (i32.store (i32.const 80) (local.get $fd))
    (if (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)) (then (call $exit (i32.const 10))))
    (if (i32.ne (i32.load (i32.const 32)) (i32.const 1)) (then (call $exit (i32.const 11)))))
  (func (export "_start")
    (local $folders i32)
    (block $last
      (loop $folder
        (br_if $last (call $prestat (i32.add (i32.const 3) (local.get $folders)) (i32.const 192)))
        (local.set $folders (i32.add (local.get $folders) (i32.const 1)))
        (br $folder)))
    (i32.store8 (i32.const 1082) (i32.add (i32.const 47) (local.get $folders)))
    (if (call $set_flags (i32.const 3) (i32.const 4)) (then (call $exit (i32.const 12))))
    ;; Nothing waits yet, and it must not be waited for.
    (if (i32.ne (call $accept (i32.const 3) (i32.const 4) (i32.const 0)) (i32.const 6)) (then (call $exit (i32.const 13))))
    (loop $connections
      (call $wait (i32.const 3))
      (if (call $accept (i32.const 3) (i32.const 4) (i32.const 0)) (then (call $exit (i32.const 14))))
      (call $wait (i32.load (i32.const 0)))
      (i32.store (i32.const 24) (i32.const 8192))
      (i32.store (i32.const 28) (i32.const 4096))
      (if (call $read (i32.load (i32.const 0)) (i32.const 24) (i32.const 1) (i32.const 32)) (then (call $exit (i32.const 15))))
      (i32.store (i32.const 24) (i32.const 1024))
      (i32.store (i32.const 28) (i32.const 59))
      (if (call $write (i32.load (i32.const 0)) (i32.const 24) (i32.const 1) (i32.const 32)) (then (call $exit (i32.const 16))))
      (drop (call $close (i32.load (i32.const 0))))
      (br $connections))))
