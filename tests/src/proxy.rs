//! A TCP proxy that counts, cuts and refuses: the link between gateway and hub, under the test's control.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the proxy knows and is told.
#[derive(Debug, Default)]
struct Link {
    target: Mutex<String>,
    is_down: AtomicBool,
    /// Bytes from the hub after which the connection is cut; 0 for never. Used once.
    cut_after: AtomicU64,
    /// Where the next break is to be.
    break_at: Mutex<Option<(Way, u64)>>,
    breaks: AtomicU64,
    connections: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    requests: AtomicU64,
    /// Both ends of every connection that is open, by number, to close them when the link goes.
    open: Mutex<BTreeMap<u64, [TcpStream; 2]>>,
}

/// The way that bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a gateway to the hub.
    Up,
    /// From the hub to a gateway.
    Down,
}

/// A link under control.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
}

impl Proxy {
    /// Listens on a free port; leads nowhere yet.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let link = Arc::new(Link::default());
        let shared = Arc::clone(&link);
        // Ends with the process; it holds nothing but a socket.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let link = Arc::clone(&shared);
                thread::spawn(move || link.carry(stream));
            }
        });
        Proxy { address, link }
    }

    /// The address that gateways are told.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads new connections to `target` from now on.
    pub fn lead_to(&self, target: &str) {
        *self.link.target.lock().unwrap_or_else(|e| e.into_inner()) = target.to_owned();
        self.link.sever();
    }

    /// Takes the link down, or brings it back. Down, open connections break and new ones are closed at once.
    pub fn set_down(&self, is_down: bool) {
        self.link.is_down.store(is_down, Ordering::SeqCst);
        if is_down {
            self.link.sever();
        }
    }

    /// Cuts the next connection after this many bytes from the hub, and takes the link down with it.
    pub fn cut_after(&self, bytes: u64) {
        self.link.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Breaks the connection, once, when so many more bytes have gone this way; the next connection works again. The byte
    /// after them is what breaks it: it has left its sender and never arrives.
    pub fn break_after(&self, way: Way, bytes: u64) {
        *self.link.break_at.lock().unwrap_or_else(|e| e.into_inner()) = Some((way, bytes));
    }

    /// Takes back what [`Proxy::break_after`] asked for; tells whether it had not come to that.
    pub fn is_unbroken(&self) -> bool {
        self.link.break_at.lock().unwrap_or_else(|e| e.into_inner()).take().is_some()
    }

    /// How often [`Proxy::break_after`] broke a connection.
    pub fn breaks(&self) -> u64 {
        self.link.breaks.load(Ordering::SeqCst)
    }

    /// Bytes from gateways to the hub, HTTP included.
    pub fn up_bytes(&self) -> u64 {
        self.link.up_bytes.load(Ordering::SeqCst)
    }

    /// Bytes from the hub to gateways, HTTP included.
    pub fn down_bytes(&self) -> u64 {
        self.link.down_bytes.load(Ordering::SeqCst)
    }

    /// Exchanges that went up.
    pub fn requests(&self) -> u64 {
        self.link.requests.load(Ordering::SeqCst)
    }
}

impl Link {
    fn carry(self: &Arc<Self>, gateway: TcpStream) {
        let target = self.target.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if self.is_down.load(Ordering::SeqCst) {
            return;
        }
        let Ok(hub) = TcpStream::connect(target) else { return };
        let (Ok(gateway_up), Ok(hub_up)) = (gateway.try_clone(), hub.try_clone()) else { return };
        let (Ok(gateway_end), Ok(hub_end)) = (gateway.try_clone(), hub.try_clone()) else { return };
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        self.open.lock().unwrap_or_else(|e| e.into_inner()).insert(number, [gateway_end, hub_end]);
        if self.is_down.load(Ordering::SeqCst) {
            // It went down while we connected, and whoever took it down may not have found us here.
            self.sever();
        }
        let link = Arc::clone(self);
        let up = thread::spawn(move || link.pump_up(gateway_up, hub_up));
        self.pump_down(hub, gateway);
        let _ = up.join();
        self.open.lock().unwrap_or_else(|e| e.into_inner()).remove(&number);
    }

    /// How many of these bytes may pass, and whether the connection breaks behind them.
    fn allows(&self, way: Way, bytes: usize) -> (usize, bool) {
        let mut at = self.break_at.lock().unwrap_or_else(|e| e.into_inner());
        match &mut *at {
            Some((wanted, left)) if *wanted == way && *left < bytes as u64 => {
                let passes = *left as usize;
                *at = None;
                self.breaks.fetch_add(1, Ordering::SeqCst);
                (passes, true)
            }
            Some((wanted, left)) if *wanted == way => {
                *left -= bytes as u64;
                (bytes, false)
            }
            _ => (bytes, false),
        }
    }

    fn pump_up(&self, mut gateway: TcpStream, mut hub: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n @ 1..) = gateway.read(&mut buffer) {
            let (passes, is_broken) = self.allows(Way::Up, n);
            let bytes = buffer.get(..passes).unwrap_or_default();
            // Requests are told by their first line: bodies of ours never contain it at the start of a read.
            self.requests.fetch_add(u64::from(bytes.starts_with(b"POST /sync/")), Ordering::SeqCst);
            self.up_bytes.fetch_add(passes as u64, Ordering::SeqCst);
            if hub.write_all(bytes).is_err() {
                break;
            }
            if is_broken {
                let _ = gateway.shutdown(Shutdown::Both);
                break;
            }
        }
        let _ = hub.shutdown(Shutdown::Both);
    }

    fn pump_down(&self, mut hub: TcpStream, mut gateway: TcpStream) {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = hub.read(&mut buffer) {
            let (n, is_broken) = self.allows(Way::Down, n);
            let mut n = n as u64;
            let left = self.cut_after.load(Ordering::SeqCst);
            let is_cut = left > 0 && left <= n;
            if left > 0 {
                n = n.min(left);
                self.cut_after.store(left - n, Ordering::SeqCst);
            }
            self.down_bytes.fetch_add(n, Ordering::SeqCst);
            if gateway.write_all(buffer.get(..n as usize).unwrap_or_default()).is_err() {
                break;
            }
            if is_cut {
                self.set_down();
            }
            if is_cut || is_broken {
                break;
            }
        }
        let _ = gateway.shutdown(Shutdown::Both);
        let _ = hub.shutdown(Shutdown::Both);
    }

    fn set_down(&self) {
        self.is_down.store(true, Ordering::SeqCst);
    }

    fn sever(&self) {
        for stream in self.open.lock().unwrap_or_else(|e| e.into_inner()).values().flatten() {
            // One that has ended already is as good as closed.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
