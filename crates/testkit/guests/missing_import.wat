;; Uses an interface that no platform provides. (This file comes before the prelude: imports are first.)
(import "acme:store/shelf@1.2.0" "put" (func $put (param i32) (result i32)))
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (drop (call $put (i32.const 1))))
