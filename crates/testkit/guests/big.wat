;; Answers with 8 MiB, in pieces of 4 KiB.
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (local $body i32) (local $stream i32) (local $left i32)
  (memory.fill (i32.const 4096) (i32.const 120) (i32.const 4096))
  (local.set $body (call $open (local.get $out) (i32.const 200) (call $fields)))
  (local.set $stream (call $stream-of (local.get $body)))
  (local.set $left (i32.const 2048))
  (block $gone
    (loop $more
      (br_if $gone (call $write (local.get $stream) (i32.const 4096) (i32.const 4096)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $more (local.get $left))))
  (call $drop-output (local.get $stream))
  (call $finish (local.get $body)))
