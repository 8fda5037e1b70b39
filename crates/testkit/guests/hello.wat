;; Answers every request with the same text.
(data (i32.const 1024) "Hello from WebAssembly!\n")
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (call $say (local.get $out) (i32.const 1024) (i32.const 24)))
