;; Waits 10 s on the clock, then answers.
(data (i32.const 1024) "Hello, at last\n")
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (call $wait (i64.const 10000000000))
  (call $say (local.get $out) (i32.const 1024) (i32.const 15)))
