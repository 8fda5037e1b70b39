;; Traps after it has set its response, without having waited for anything in between.
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (drop (call $open (local.get $out) (i32.const 200) (call $fields)))
  (unreachable))
