;; Ends its process with a failure before it answers.
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (call $exit (i32.const 1)))
