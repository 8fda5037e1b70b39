;; Takes memory until it is refused, then answers.
(data (i32.const 1024) "refused\n")
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (block $refused
    (loop $more
      (br_if $refused (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
      (br $more)))
  (call $say (local.get $out) (i32.const 1024) (i32.const 8)))
