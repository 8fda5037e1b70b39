;; Computes fib(27) by plain recursion, some 830,000 calls, and answers with it in decimal digits and a line end.
(func $fib (param $n i32) (result i32)
  (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
    (then (local.get $n))
    (else
      (i32.add
        (call $fib (i32.sub (local.get $n) (i32.const 1)))
        (call $fib (i32.sub (local.get $n) (i32.const 2)))))))

;; Digits are written backwards; the line end stands at 1055.
(data (i32.const 1055) "\n")
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (local $rest i32) (local $at i32)
  (local.set $rest (call $fib (i32.const 27)))
  (local.set $at (i32.const 1055))
  (loop $digit
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $rest) (i32.const 10))))
    (local.set $rest (i32.div_u (local.get $rest) (i32.const 10)))
    (br_if $digit (local.get $rest)))
  (call $say (local.get $out) (local.get $at) (i32.sub (i32.const 1056) (local.get $at))))
