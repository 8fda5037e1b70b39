//! `wasi:sockets` 0.2 in place of wasmtime's, which opens sockets of the kernel: what listens here listens in the
//! instance's own network in memory ([`crate::network`]), and other servers are reached where the template allows it.
//! UDP stays wasmtime's, which refuses it: `access-denied`.
//!
//! Resources keep wasmtime's types towards guests. What is in the table under the number of a `tcp-socket` is a
//! [`Socket`], under that of a `resolve-address-stream` a [`Lookup`], which only the functions here look at: they are all
//! that take or make one. Streams and pollables are wasmtime's, so `wasi:io` knows them.

use super::Host;
use crate::network::{Network, Reach, may_resolve};
use kittiwake_core::log::RevisionLog;
use kittiwake_core::outbound::Outbound;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, HostResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, HostNetwork, IpAddress, IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Network as NetworkHandle, SocketError, SocketResult,
    TcpSocket, subscribe,
};

mod lookup;
mod socket;
mod stream;

use lookup::{Lookup, ResolveAddressStream};
use socket::Socket;
use stream::{Link, Reader, Writer};

/// Sockets that one instance may have open at a time.
const SOCKETS_MAX: usize = 4096;
/// Resources that an instance may hold that listens: for each socket itself, its two streams, and what waits for them.
const RESOURCES_MAX: usize = 6 * SOCKETS_MAX;
/// Names that one instance asks for at a time; further ones wait.
const LOOKUPS_MAX: usize = 4;

/// What an instance has of sockets. Costs nothing as long as it has none.
#[derive(Default)]
pub(crate) struct Sockets {
    network: Option<Arc<Network>>,
    reach: Reach,
    open: usize,
    lookups: Option<Arc<Semaphore>>,
}

impl Sockets {
    fn network(&mut self) -> &Arc<Network> {
        self.network.get_or_insert_default()
    }

    fn lookups(&mut self) -> Arc<Semaphore> {
        let made = || Arc::new(Semaphore::new(LOOKUPS_MAX));
        Arc::clone(self.lookups.get_or_insert_with(made))
    }
}

impl Host {
    /// Lets the instance listen in this network, for many connections at a time.
    pub(crate) fn listen_in(&mut self, network: &Arc<Network>) {
        self.sockets.network = Some(Arc::clone(network));
        self.table.set_max_capacity(RESOURCES_MAX);
    }
}

/// The sockets of an instance with what they need.
struct View<'a> {
    sockets: &'a mut Sockets,
    table: &'a mut ResourceTable,
    allowed: &'a Outbound,
    log: &'a RevisionLog,
}

/// The name of [`View`] for linkers.
struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

fn view(host: &mut Host) -> View<'_> {
    View {
        sockets: &mut host.sockets,
        table: &mut host.table,
        allowed: &host.doors.revision.outbound,
        log: &host.doors.log,
    }
}

/// Puts the functions here in the place of wasmtime's.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp::add_to_linker::<Host, HasView>(linker, view)?;
    tcp_create_socket::add_to_linker::<Host, HasView>(linker, view)?;
    ip_name_lookup::add_to_linker::<Host, HasView>(linker, view)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A socket as the table has it.
fn ours(socket: &Resource<TcpSocket>) -> Resource<Socket> {
    Resource::new_borrow(socket.rep())
}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl View<'_> {
    fn socket(&mut self, socket: &Resource<TcpSocket>) -> Result<&mut Socket, ResourceTableError> {
        self.table.get_mut(&ours(socket))
    }

    fn has_room(&self) -> Result<(), ErrorCode> {
        if self.sockets.open >= SOCKETS_MAX {
            return Err(ErrorCode::NewSocketLimit);
        }
        Ok(())
    }

    fn add(&mut self, socket: Socket) -> SocketResult<Resource<TcpSocket>> {
        let added = self.table.push(socket)?;
        self.sockets.open += 1;
        Ok(Resource::new_own(added.rep()))
    }

    /// The two streams of a connection, which go before its socket.
    fn streams(&mut self, link: &Arc<Link>, socket: &Resource<TcpSocket>) -> SocketResult<Streams> {
        let socket = ours(socket);
        let reader: DynInputStream = Box::new(Reader(Arc::clone(link)));
        let writer: DynOutputStream = Box::new(Writer::new(link));
        let input = self.table.push_child(reader, &socket)?;
        let output = self.table.push_child(writer, &socket)?;
        Ok((input, output))
    }
}

impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<std::io::Error>().map(ErrorCode::from))
    }
}

impl HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.has_room()?;
        self.add(Socket::new(family == IpAddressFamily::Ipv6))
    }
}

impl tcp::Host for View<'_> {}

impl HostTcpSocket for View<'_> {
    async fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<NetworkHandle>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let network = Arc::clone(self.sockets.network());
        Ok(self.socket(&socket)?.start_bind(&network, local.into())?)
    }

    fn finish_bind(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.socket(&socket)?.finish_bind()?)
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<NetworkHandle>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let peer = SocketAddr::from(remote);
        self.socket(&socket)?.check_connect(peer)?;
        let own = if peer.ip().is_loopback() {
            self.sockets.network().try_connect(peer.port())
        } else {
            None
        };
        if own.is_none() && self.sockets.network().refuses(peer, self.allowed) {
            return Err(ErrorCode::ConnectionRefused.into());
        }
        if own.is_none() && !self.sockets.reach.may_connect(self.allowed, peer, self.log) {
            return Err(ErrorCode::AccessDenied.into());
        }
        self.socket(&socket)?.start_connect(peer, own);
        Ok(())
    }

    fn finish_connect(&mut self, socket: Resource<TcpSocket>) -> SocketResult<Streams> {
        let link = self.socket(&socket)?.finish_connect()?;
        self.streams(&link, &socket)
    }

    async fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.socket(&socket)?.start_listen()?)
    }

    fn finish_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.socket(&socket)?.finish_listen()?)
    }

    fn accept(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> SocketResult<(
        Resource<TcpSocket>,
        Resource<DynInputStream>,
        Resource<DynOutputStream>,
    )> {
        // Before a connection is taken: one that has nowhere to go must stay.
        let room = self.has_room();
        let listening = self.socket(&socket)?;
        if listening.is_listening() {
            room?;
        }
        let (accepted, link) = listening.accept()?;
        let accepted = self.add(accepted)?;
        let (input, output) = self.streams(&link, &accepted)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.socket(&socket)?.local_address()?.into())
    }

    fn remote_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.socket(&socket)?.remote_address()?.into())
    }

    fn is_listening(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(self.socket(&socket)?.is_listening())
    }

    fn address_family(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(if self.socket(&socket)?.is_v6() {
            IpAddressFamily::Ipv6
        } else {
            IpAddressFamily::Ipv4
        })
    }

    fn set_listen_backlog_size(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.socket(&socket)?.set_backlog(value)?)
    }

    fn keep_alive_enabled(&mut self, socket: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.socket(&socket)?.options()?.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, socket: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        self.socket(&socket)?.options()?.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&socket)?.options()?.keep_alive_idle)
    }

    fn set_keep_alive_idle_time(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        let options = self.socket(&socket)?.options()?;
        Ok(socket::set(&mut options.keep_alive_idle, value)?)
    }

    fn keep_alive_interval(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&socket)?.options()?.keep_alive_interval)
    }

    fn set_keep_alive_interval(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        let options = self.socket(&socket)?.options()?;
        Ok(socket::set(&mut options.keep_alive_interval, value)?)
    }

    fn keep_alive_count(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u32> {
        Ok(self.socket(&socket)?.options()?.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, socket: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        let options = self.socket(&socket)?.options()?;
        Ok(socket::set(&mut options.keep_alive_count, value)?)
    }

    fn hop_limit(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u8> {
        Ok(self.socket(&socket)?.options()?.hop_limit)
    }

    fn set_hop_limit(&mut self, socket: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        let options = self.socket(&socket)?.options()?;
        Ok(socket::set(&mut options.hop_limit, value)?)
    }

    fn receive_buffer_size(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&socket)?.options()?.receive_buffer)
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        let options = self.socket(&socket)?.options()?;
        Ok(socket::set(&mut options.receive_buffer, value)?)
    }

    fn send_buffer_size(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.socket(&socket)?.options()?.send_buffer)
    }

    fn set_send_buffer_size(&mut self, socket: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        let options = self.socket(&socket)?.options()?;
        Ok(socket::set(&mut options.send_buffer, value)?)
    }

    fn subscribe(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, ours(&socket))
    }

    fn shutdown(&mut self, socket: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let (receiving, sending) = match how {
            ShutdownType::Receive => (true, false),
            ShutdownType::Send => (false, true),
            ShutdownType::Both => (true, true),
        };
        Ok(self.socket(&socket)?.shut_down(receiving, sending)?)
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Socket>::new_own(socket.rep()))?;
        self.sockets.open = self.sockets.open.saturating_sub(1);
        Ok(())
    }
}

impl ip_name_lookup::Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<NetworkHandle>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.table.get(&network)?;
        let lookup = match lookup::question(&name)? {
            lookup::Question::Known(addresses) => Lookup::known(addresses),
            lookup::Question::Host(host) => {
                if !may_resolve(self.allowed, &host, self.log) {
                    return Err(ErrorCode::AccessDenied.into());
                }
                Lookup::begin(host, self.sockets.lookups())
            }
        };
        let added = self.table.push(lookup)?;
        Ok(Resource::new_own(added.rep()))
    }
}

impl HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        lookup: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let lookup = self
            .table
            .get_mut(&Resource::<Lookup>::new_borrow(lookup.rep()))?;
        if let Some((host, addresses)) = lookup.found() {
            self.sockets.reach.remember(host, addresses);
        }
        Ok(lookup.next()?.map(IpAddress::from))
    }

    fn subscribe(
        &mut self,
        lookup: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, Resource::<Lookup>::new_borrow(lookup.rep()))
    }

    fn drop(&mut self, lookup: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Lookup>::new_own(lookup.rep()))?;
        Ok(())
    }
}
