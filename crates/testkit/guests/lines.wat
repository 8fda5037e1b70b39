;; Writes to its standard output and error, then answers.
(data (i32.const 1024) "one\ntwo\nunfinished")
(data (i32.const 1056) "oh no\n")
(data (i32.const 1072) "ok\n")
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (drop (call $write (call $stdout) (i32.const 1024) (i32.const 18)))
  (drop (call $write (call $stderr) (i32.const 1056) (i32.const 6)))
  (call $say (local.get $out) (i32.const 1072) (i32.const 3)))
