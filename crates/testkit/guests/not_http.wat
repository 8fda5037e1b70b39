;; A component of its own kind: the whole module, without the prelude.
(module
  (memory (export "memory") 1)
  (func (export "answer") (result i32) (i32.const 42)))
