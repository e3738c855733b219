//! A TCP proxy that counts, cuts and refuses: the link between gateway and hub, under the test's control.

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
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    requests: AtomicU64,
    /// Both ends of every connection, to close them when the link goes.
    open: Mutex<Vec<TcpStream>>,
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
        self.open
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .extend([gateway.try_clone(), hub.try_clone()].into_iter().flatten());
        let link = Arc::clone(self);
        let up = thread::spawn(move || link.pump_up(gateway_up, hub_up));
        self.pump_down(hub, gateway);
        let _ = up.join();
    }

    fn pump_up(&self, mut gateway: TcpStream, mut hub: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n @ 1..) = gateway.read(&mut buffer) {
            let bytes = buffer.get(..n).unwrap_or_default();
            // Requests are told by their first line: bodies of ours never contain it at the start of a read.
            self.requests.fetch_add(u64::from(bytes.starts_with(b"POST /sync/")), Ordering::SeqCst);
            self.up_bytes.fetch_add(n as u64, Ordering::SeqCst);
            if hub.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = hub.shutdown(Shutdown::Both);
    }

    fn pump_down(&self, mut hub: TcpStream, mut gateway: TcpStream) {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = hub.read(&mut buffer) {
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
        for stream in self.open.lock().unwrap_or_else(|e| e.into_inner()).drain(..) {
            // One that has ended already is as good as closed.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
