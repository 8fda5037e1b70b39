;; Traps while its instance is made.
(func $boom (unreachable))
(start $boom)
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32))
