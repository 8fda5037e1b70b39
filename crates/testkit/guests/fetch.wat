;; Asks another server, and says what came: "denied" for the error HTTP-request-denied, otherwise "reached".
(data (i32.const 1024) "example.com")
(data (i32.const 1040) "denied\n")
(data (i32.const 1056) "reached\n")
(func (export "wasi:http/incoming-handler@0.2.3#handle") (param $request i32) (param $out i32)
  (local $asked i32) (local $coming i32)
  (local.set $asked (call $outgoing-request (call $fields)))
  (drop (call $set-authority (local.get $asked) (i32.const 1) (i32.const 1024) (i32.const 11)))
  (call $fetch (local.get $asked) (i32.const 0) (i32.const 0) (i32.const 128))
  (if (i32.load8_u (i32.const 128)) (then (unreachable)))
  (local.set $coming (i32.load (i32.const 136)))
  (call $block (call $incoming-response-subscribe (local.get $coming)))
  (call $incoming-response-get (local.get $coming) (i32.const 192))
  ;; option some, outer result ok, inner result err, case 15 of error-code
  (if (i32.and
        (i32.and (i32.load8_u (i32.const 192)) (i32.eqz (i32.load8_u (i32.const 200))))
        (i32.and (i32.load8_u (i32.const 208)) (i32.eq (i32.load8_u (i32.const 216)) (i32.const 15))))
    (then (call $say (local.get $out) (i32.const 1040) (i32.const 7)))
    (else (call $say (local.get $out) (i32.const 1056) (i32.const 8)))))
