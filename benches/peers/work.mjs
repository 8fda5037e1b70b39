// The work of the comparison in JavaScript, the same as src/native.rs and the components do. For Node and workerd.

export const HELLO = 'Hello World!\n';

const PRICES_CENTS = new Map([['tea', 890], ['cup', 1450], ['kettle', 5900]]);

/** Adds a basket up, as examples/json-rest does. */
export function quote(body) {
  let totalCents = 0;
  const items = JSON.parse(body).items.map(({ id, quantity }) => {
    const lineCents = PRICES_CENTS.get(id) * quantity;
    totalCents += lineCents;
    return { id, line_cents: lineCents, quantity };
  });
  return JSON.stringify({ items, total_cents: totalCents }) + '\n';
}

/** Fibonacci's numbers by plain recursion. */
export function fib(n) {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
