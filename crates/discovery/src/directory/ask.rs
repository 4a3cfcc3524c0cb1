//! `/sinew/record/1`: a question of no bytes, and a node record, or nothing, for an answer.

use std::io;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::request_response::Codec;
use sinew_wire::directory::RECORD_MAX;

pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/sinew/record/1");

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ask;

impl Codec for Ask {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::with_capacity(RECORD_MAX);
        io.take(RECORD_MAX as u64 + 1).read_to_end(&mut bytes).await?;
        if bytes.len() > RECORD_MAX { Err(io::ErrorKind::InvalidData.into()) } else { Ok(bytes) }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.close().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, record: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&record).await?;
        io.close().await
    }
}
