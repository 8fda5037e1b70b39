;; A server of one connection at a time, through the first version of WasmEdge's sockets. The letter after the slash of
;; a request's path says what it does; see `serve`.
(module
  (import "wasi_snapshot_preview1" "sock_open" (func $open (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_bind" (func $bind (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_listen" (func $listen (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv" (func $sock_recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send" (func $sock_send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_connect" (func $connect (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  ;; 0 listening socket, 4 connection, 8 address { 16, 4 }, 24 buffer { at, length }, 32 count, 36 flags, 40 other socket
  (data (i32.const 8) "\10\00\00\00\04\00\00\00")
  (data (i32.const 48) "\7f\00\00\01")
  (data (i32.const 64) "\30\00\00\00\04\00\00\00")
  (data (i32.const 1024) "HTTP/1.1 200 OK\0d\0acontent-length: 5\0d\0a\0d\0ahello")
  (data (i32.const 1280) "HTTP/1.1 200 OK\0d\0acontent-length: 100\0d\0a\0d\0apart")
  (data (i32.const 1536) "this is not HTTP\0d\0a\0d\0a")
  (data (i32.const 1792) "HTTP/1.1 101 Switching Protocols\0d\0aconnection: upgrade\0d\0aupgrade: echo\0d\0a\0d\0a")
  (data (i32.const 2048) "HTTP/1.1 100 Continue\0d\0a\0d\0a")
  (data (i32.const 2304) "HTTP/1.1 200 OK\0d\0acontent-length: 2\0d\0a\0d\0a00")
  (data (i32.const 2560) "listening\0a")
  (func $recv (param $fd i32) (result i32)
    (i32.store (i32.const 24) (i32.const 8192))
    (i32.store (i32.const 28) (i32.const 4096))
    (i32.store (i32.const 32) (i32.const 0))
    (drop (call $sock_recv (local.get $fd) (i32.const 24) (i32.const 1) (i32.const 0) (i32.const 32) (i32.const 36)))
    (i32.load (i32.const 32)))
  (func $send (param $fd i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 24) (local.get $at))
    (i32.store (i32.const 28) (local.get $length))
    (drop (call $sock_send (local.get $fd) (i32.const 24) (i32.const 1) (i32.const 0) (i32.const 32))))
  ;; Answers one request; whether the connection stays open.
  (func $serve (param $fd i32) (param $letter i32) (result i32)
    (local $count i32)
    ;; t: traps, p: traps within its answer, e: exits, l: computes for ever, m: takes memory for ever
    (if (i32.eq (local.get $letter) (i32.const 0x74)) (then unreachable))
    (if (i32.eq (local.get $letter) (i32.const 0x70)) (then
      (call $send (local.get $fd) (i32.const 1280) (i32.const 44))
      unreachable))
    (if (i32.eq (local.get $letter) (i32.const 0x65)) (then (call $exit (i32.const 3))))
    (if (i32.eq (local.get $letter) (i32.const 0x6c)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $letter) (i32.const 0x6d)) (then
      (loop $more (drop (memory.grow (i32.const 16))) (br $more))))
    ;; c: closes, h: closes within its answer, g: answers garbage, w: never answers
    (if (i32.eq (local.get $letter) (i32.const 0x63)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $letter) (i32.const 0x68)) (then
      (call $send (local.get $fd) (i32.const 1280) (i32.const 44))
      (return (i32.const 0))))
    (if (i32.eq (local.get $letter) (i32.const 0x67)) (then
      (call $send (local.get $fd) (i32.const 1536) (i32.const 20))
      (return (i32.const 1))))
    (if (i32.eq (local.get $letter) (i32.const 0x77)) (then (return (i32.const 1))))
    ;; s: sends the head of an answer and some of its body, then nothing
    (if (i32.eq (local.get $letter) (i32.const 0x73)) (then
      (call $send (local.get $fd) (i32.const 1280) (i32.const 44))
      (return (i32.const 1))))
    ;; u: goes over to a protocol that sends back what comes
    (if (i32.eq (local.get $letter) (i32.const 0x75)) (then
      (call $send (local.get $fd) (i32.const 1792) (i32.const 72))
      (loop $echo
        (local.set $count (call $recv (local.get $fd)))
        (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
        (call $send (local.get $fd) (i32.const 8192) (local.get $count))
        (br $echo))))
    ;; a: asks for the body, takes it, answers
    (if (i32.eq (local.get $letter) (i32.const 0x61)) (then
      (call $send (local.get $fd) (i32.const 2048) (i32.const 25))
      (drop (call $recv (local.get $fd)))))
    ;; o: tells the error of a connection to port 1 of 127.0.0.1, in two digits
    (if (i32.eq (local.get $letter) (i32.const 0x6f)) (then
      (drop (call $open (i32.const 1) (i32.const 2) (i32.const 40)))
      (local.set $count (call $connect (i32.load (i32.const 40)) (i32.const 64) (i32.const 1)))
      (drop (call $close (i32.load (i32.const 40))))
      (i32.store8 (i32.const 2342) (i32.add (i32.const 48) (i32.div_u (local.get $count) (i32.const 10))))
      (i32.store8 (i32.const 2343) (i32.add (i32.const 48) (i32.rem_u (local.get $count) (i32.const 10))))
      (call $send (local.get $fd) (i32.const 2304) (i32.const 40))
      (return (i32.const 1))))
    (call $send (local.get $fd) (i32.const 1024) (i32.const 43))
    (i32.const 1))
  ;; Where the request's first slash is.
  (func $letter (param $count i32) (result i32)
    (local $at i32)
    (local.set $at (i32.const 8192))
    (loop $next
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x2f)) (then
        (return (i32.load8_u (i32.add (local.get $at) (i32.const 1))))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.add (i32.const 8192) (local.get $count)))))
    (i32.const 0))
  (func (export "_start")
    (local $count i32)
    (if (call $open (i32.const 1) (i32.const 2) (i32.const 0)) (then (call $exit (i32.const 10))))
    (if (call $bind (i32.load (i32.const 0)) (i32.const 8) (i32.const 8080)) (then (call $exit (i32.const 11))))
    (if (call $listen (i32.load (i32.const 0)) (i32.const 128)) (then (call $exit (i32.const 12))))
    (i32.store (i32.const 24) (i32.const 2560))
    (i32.store (i32.const 28) (i32.const 10))
    (drop (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 32)))
    (loop $connections
      (if (call $accept (i32.load (i32.const 0)) (i32.const 4)) (then (call $exit (i32.const 13))))
      (block $end
        (loop $requests
          (local.set $count (call $recv (i32.load (i32.const 4))))
          (br_if $end (i32.eqz (local.get $count)))
          (br_if $requests (call $serve (i32.load (i32.const 4)) (call $letter (local.get $count))))))
      (drop (call $close (i32.load (i32.const 4))))
      (br $connections))))
