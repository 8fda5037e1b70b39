// The work as a Cloudflare Worker, for workerd.

import { HELLO, fib, quote } from './work.mjs';

const TEXT = { headers: { 'content-type': 'text/plain; charset=utf-8' } };
const JSON_TYPE = { headers: { 'content-type': 'application/json' } };

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case '/echo':
        return new Response(request.body, { headers: { 'content-type': 'application/octet-stream' } });
      case '/quotes':
        return new Response(quote(await request.text()), JSON_TYPE);
      case '/fib':
        return new Response(`${fib(27)}\n`, TEXT);
      default:
        return new Response(HELLO, TEXT);
    }
  },
};
