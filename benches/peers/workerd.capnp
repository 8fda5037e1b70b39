using Workerd = import "/workerd/workerd.capnp";

# ADDRESS is filled in by the bench program.
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [
      (name = "worker.mjs", esModule = embed "worker.mjs"),
      (name = "work.mjs", esModule = embed "work.mjs"),
    ],
    compatibilityDate = "2026-01-01",
  ))],
  sockets = [(name = "http", address = "ADDRESS", http = (), service = "main")],
);
