;; Computes for ever.
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (loop $forever (br $forever)))
