;; A server of plain WASI that does nothing with the socket that it is started with. Run with one argument it computes
;; for ever, with two it takes memory until it is refused, and says so.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 256) "no more memory\n")
  ;; One iovec: where the text is, and its length.
  (data (i32.const 512) "\00\01\00\00\0f\00\00\00")
  (func (export "_start")
    (local $count i32)
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (local.set $count (i32.load (i32.const 0)))
    (if (i32.eq (local.get $count) (i32.const 2))
      (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $count) (i32.const 3))
      (then
        (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
        (loop $more
          (br_if $more (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))
        unreachable))
    (loop $sleep
      ;; A subscription to the clock: after an hour.
      (i64.store (i32.const 1024) (i64.const 1))
      (i32.store8 (i32.const 1032) (i32.const 0))
      (i32.store (i32.const 1040) (i32.const 1))
      (i64.store (i32.const 1048) (i64.const 3600000000000))
      (i64.store (i32.const 1056) (i64.const 0))
      (i32.store16 (i32.const 1064) (i32.const 0))
      (drop (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))
      (br $sleep))))
