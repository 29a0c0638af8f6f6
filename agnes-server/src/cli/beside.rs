//! Commands beside a server: while one holds the data folder it runs them, so that nothing has to
//! be stopped.
//!
//! The server listens on a socket in the state folder that its owner alone may open: whoever can
//! could read the folder as well. A command sends its arguments and says where it works; the
//! server runs it and sends back what it prints, as frames of a kind, a length and bytes.

use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

use agnes_core::query::Stop;
use agnes_core::{Error, Kind, Result, VERSION};
use serde::{Deserialize, Serialize};

use super::output::Output;

/// The socket in the state folder.
pub(super) const SOCKET: &str = "agnes.sock";

/// What a command is, and where it was started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    version: String,
    /// Arguments are bytes.
    arguments: Vec<Vec<u8>>,
    folder: Vec<u8>,
    /// The width of the terminal on stdout, if there is one.
    width: Option<u16>,
    is_terminal: bool,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// A [`Request`], once and first.
    Request = 1,
    /// All of standard input, when it was asked for.
    Input = 2,
    /// Bytes for stdout.
    Data = 3,
    /// Bytes for stderr.
    Message = 4,
    /// The command reads standard input.
    Asks = 5,
    /// How it ended: one byte, the exit code. Nothing follows.
    Exit = 6,
}

impl Frame {
    fn of(byte: u8) -> io::Result<Frame> {
        [Frame::Request, Frame::Input, Frame::Data, Frame::Message, Frame::Asks, Frame::Exit]
            .into_iter()
            .find(|frame| *frame as u8 == byte)
            .ok_or_else(|| io::Error::other("this is no frame"))
    }
}

/// The most bytes of a frame. What is longer goes in several.
const LONGEST: usize = 64 << 20;

fn send(mut to: impl Write, frame: Frame, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut head = [frame as u8, 0, 0, 0, 0];
    if let Some(rest) = head.get_mut(1..) {
        rest.copy_from_slice(&length.to_be_bytes());
    }
    to.write_all(&head)?;
    to.write_all(bytes)?;
    to.flush()
}

fn receive(mut from: impl Read) -> io::Result<(Frame, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok((Frame::of(kind)?, bytes))
}

/// A path that a socket's address holds, whose length is limited to about a hundred bytes.
fn short(folder: &Path, name: &str) -> io::Result<(PathBuf, Option<std::fs::File>)> {
    let path = folder.join(name);
    if path.as_os_str().len() < 100 {
        return Ok((path, None));
    }
    use std::os::fd::AsRawFd as _;
    let held = std::fs::File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())).join(name);
    Ok((path, Some(held)))
}

// The command.

/// Whether a server holds the folder.
pub(super) fn is_there(state: &Path) -> bool {
    short(state, SOCKET).is_ok_and(|(path, _held)| UnixStream::connect(path).is_ok())
}

/// Has a server run this command, when one holds the folder; none when there is none.
///
/// # Errors
/// `Unavailable` when it ends before the command does, or is of another version.
pub(super) fn run(
    state: &Path,
    arguments: &[std::ffi::OsString],
    folder: &Path,
    output: &Output,
) -> Option<Result<u8>> {
    let (path, _held) = short(state, SOCKET).ok()?;
    let server = UnixStream::connect(path).ok()?;
    Some(ask(&server, arguments, folder, output).map_err(|e| {
        Error::new(
            Kind::Unavailable,
            format!(
                "the server that holds the data folder went away before the command ended: {e}"
            ),
        )
    }))
}

fn ask(
    server: &UnixStream,
    arguments: &[std::ffi::OsString],
    folder: &Path,
    output: &Output,
) -> io::Result<u8> {
    let request = Request {
        version: VERSION.to_string(),
        arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        folder: folder.as_os_str().as_bytes().to_vec(),
        width: output.width(),
        is_terminal: output.is_terminal(),
    };
    send(server, Frame::Request, &serde_json::to_vec(&request)?)?;
    loop {
        let (frame, bytes) = receive(server)?;
        match frame {
            Frame::Data => {
                output.data(&bytes).map_err(io::Error::other)?;
                // As it is for `head`: nobody wants the rest.
                if output.is_closed() {
                    return Ok(0);
                }
            }
            Frame::Message => output.message(&bytes),
            Frame::Asks => {
                let mut input = Vec::new();
                io::stdin().take(LONGEST as u64).read_to_end(&mut input)?;
                send(server, Frame::Input, &input)?;
            }
            Frame::Exit => return Ok(bytes.first().copied().unwrap_or_default()),
            Frame::Request | Frame::Input => return Err(io::Error::other("this is no answer")),
        }
    }
}

// The server.

/// Whoever runs a command beside this server.
pub(super) struct Peer {
    socket: Mutex<UnixStream>,
    input: Mutex<Receiver<Vec<u8>>>,
    stop: Stop,
    request: Request,
}

impl Peer {
    pub(super) fn folder(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsString::from_vec(self.request.folder.clone()))
    }

    pub(super) fn width(&self) -> Option<u16> {
        self.request.width
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.request.is_terminal
    }

    pub(super) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    fn send(&self, frame: Frame, bytes: &[u8]) -> io::Result<()> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.chunks(LONGEST).try_for_each(|bytes| send(&*socket, frame, bytes))
    }

    pub(super) fn data(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(Frame::Data, bytes)
    }

    pub(super) fn message(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(Frame::Message, bytes)
    }

    pub(super) fn input(&self) -> io::Result<Vec<u8>> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        send(&*socket, Frame::Asks, &[])?;
        drop(socket);
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.recv().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

/// The socket of a server, which goes with it.
pub(super) struct Listening {
    path: PathBuf,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens for commands, and has each of them run on a thread of its own.
///
/// # Errors
/// `Unavailable` when the socket can't be made.
pub(super) fn listen(
    state: &Path,
    work: impl Fn(Vec<std::ffi::OsString>, &Output) -> u8 + Send + Sync + 'static,
) -> Result<Listening> {
    let path = state.join(SOCKET);
    let failed = |e: io::Error| {
        Error::new(
            Kind::Unavailable,
            format!("can't listen for commands at `{}`: {e}", path.display()),
        )
    };
    let listener = bind(state).map_err(failed)?;
    let work = std::sync::Arc::new(work);
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // No file can be opened any more: those who have some may close them.
                std::thread::sleep(std::time::Duration::from_millis(100));
                continue;
            };
            let work = work.clone();
            // A command that finds no thread is cut off, and says so.
            let _ = std::thread::Builder::new()
                .name("agnes-command".into())
                .spawn(move || answer(stream, &*work));
        }
    };
    let thread = std::thread::Builder::new().name("agnes-socket".into()).spawn(accept);
    thread.map_err(failed)?;
    Ok(Listening { path })
}

/// Makes the socket where nobody else can reach it, and moves it into place once it is the owner's
/// alone.
fn bind(state: &Path) -> io::Result<UnixListener> {
    let aside = format!(".{}", uuid::Uuid::new_v4().simple());
    let folder = state.join(&aside);
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let made = || {
        let (address, _held) = short(&folder, SOCKET)?;
        let listener = UnixListener::bind(address)?;
        let path = folder.join(SOCKET);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&path, state.join(SOCKET))?;
        Ok(listener)
    };
    let listener = made();
    let _ = std::fs::remove_dir_all(&folder);
    listener
}

/// Whether the other end is run by this process's owner, or by root.
fn is_owner(stream: &UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(stream) else { return false };
    peer.uid == rustix::process::geteuid() || peer.uid.is_root()
}

fn answer(stream: UnixStream, work: &(impl Fn(Vec<std::ffi::OsString>, &Output) -> u8 + ?Sized)) {
    if !is_owner(&stream) {
        return;
    }
    let Ok((Frame::Request, bytes)) = receive(&stream) else { return };
    let Ok(request) = serde_json::from_slice::<Request>(&bytes) else { return };
    let (Ok(reader), stop) = (stream.try_clone(), Stop::default()) else { return };
    let (told, input): (Sender<Vec<u8>>, _) = mpsc::channel();
    let gone = stop.clone();
    let listen = move || {
        while let Ok((Frame::Input, bytes)) = receive(&reader) {
            let _ = told.send(bytes);
        }
        gone.stop();
    };
    if std::thread::Builder::new().name("agnes-caller".into()).spawn(listen).is_err() {
        return;
    }
    let version = request.version.clone();
    let arguments = request.arguments.iter().cloned();
    let arguments = arguments.map(std::ffi::OsString::from_vec).collect();
    let peer = Peer { socket: Mutex::new(stream), input: Mutex::new(input), stop, request };
    let output = Output::of(peer);
    let code = match version == VERSION {
        true => work(arguments, &output),
        false => output.finish(Err(Error::new(
            Kind::Conflict,
            format!(
                "the server that holds the data folder is version {VERSION}, this command \
                 {version}; use the same"
            ),
        ))),
    };
    output.end(code);
}

impl Peer {
    /// Says how the command ended; nothing follows.
    pub(super) fn end(&self, code: u8) {
        let _ = self.send(Frame::Exit, &[code]);
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}
