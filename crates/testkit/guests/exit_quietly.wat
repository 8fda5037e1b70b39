;; Ends its process without a failure and without an answer.
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (call $exit (i32.const 0)))
