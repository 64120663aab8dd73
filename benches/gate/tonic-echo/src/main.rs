//! The control T0: a stock tonic server on the default runtime and profile.

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

mod bench {
    tonic::include_proto!("portcullis.bench");
}
use bench::echo_server::{Echo, EchoServer};

struct Prefix;

#[tonic::async_trait]
impl Echo for Prefix {
    async fn say(&self, request: Request<String>) -> Result<Response<String>, Status> {
        let text = request.into_inner();
        let prefix = text
            .get(..25)
            .ok_or_else(|| Status::invalid_argument("fewer than 25 characters"))?;
        Ok(Response::new(prefix.to_owned()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready: {}", listener.local_addr()?);
    // As `Server::serve` has it: without Nagle's delay. Serving a listener of one's own leaves that to the caller.
    let incoming = tokio_stream::StreamExt::map(TcpListenerStream::new(listener), |stream| {
        stream.inspect(|stream| drop(stream.set_nodelay(true)))
    });
    Server::builder()
        .add_service(EchoServer::new(Prefix))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
