;; Answers with the error HTTP-response-incomplete instead of a response.
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (call $outparam-set (local.get $out) (i32.const 1) (i32.const 25)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
