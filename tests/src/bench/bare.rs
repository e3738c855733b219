//! The baseline of an exchange: a POST over HTTP that is answered at once, by a bare accept loop on the same runtime.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 40\r\n\r\n0123456789012345678901234567890123456789";

/// Serves until the process is killed; says where on the standard output, as the programs do.
///
/// # Errors
/// What the system reports if there is no port.
pub fn serve_bare() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("bare on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            // A connection that ends is a client that is done.
            tokio::spawn(async move { answer_all(stream).await.unwrap_or_default() });
        }
    })
}

async fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // A request of the bench is small and comes in one piece.
        if stream.read(&mut buffer).await? == 0 {
            return Ok(());
        }
        stream.write_all(ANSWER).await?;
    }
}
