;; Answers with how many calls this instance has had: always 1 when each call has its own.
(import "wasi:http/types@0.2.3" "[resource-drop]incoming-request" (func $drop-request (param i32)))
(global $calls (mut i32) (i32.const 0))
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (call $drop-request (local.get $request))
  (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
  ;; Also kept in memory, which must be as fresh as the global.
  (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 2048)) (i32.const 1)))
  (i32.store8 (i32.const 1024) (i32.add (i32.const 48) (global.get $calls)))
  (i32.store8 (i32.const 1025) (i32.add (i32.const 48) (i32.load (i32.const 2048))))
  (call $say (local.get $out) (i32.const 1024) (i32.const 2)))
