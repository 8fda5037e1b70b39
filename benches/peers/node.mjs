// The work behind Node's own http module: one process, as in a container.

import { createServer } from 'node:http';
import { HELLO, fib, quote } from './work.mjs';

const TEXT = { 'content-type': 'text/plain; charset=utf-8' };

const server = createServer(async (request, response) => {
  switch (request.url) {
    case '/echo':
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      request.pipe(response);
      return;
    case '/quotes': {
      let body = '';
      for await (const chunk of request.setEncoding('utf8')) body += chunk;
      response.writeHead(200, { 'content-type': 'application/json' }).end(quote(body));
      return;
    }
    case '/fib':
      response.writeHead(200, TEXT).end(`${fib(27)}\n`);
      return;
    default:
      response.writeHead(200, TEXT).end(HELLO);
  }
});
// Connections stay, however long another server is measured.
server.keepAliveTimeout = 3_600_000;
server.listen(0, '127.0.0.1', 4096, () => console.log(`http://127.0.0.1:${server.address().port}/`));
