;; Traps in the middle of its body, after waiting, so that the head has been sent.
(data (i32.const 1024) "partial")
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (local $stream i32)
  (local.set $stream (call $stream-of (call $open (local.get $out) (i32.const 200) (call $fields))))
  (drop (call $write (local.get $stream) (i32.const 1024) (i32.const 7)))
  (call $wait (i64.const 20000000))
  (unreachable))
