//! Clients that do everything wrong: messages that are flipped, cut, doubled, out of order and made up, connections that end at
//! any byte, that nobody reads from, that say nothing.
//!
//! After each of these tests nothing has panicked, no task is left of any client, and a new client is served.
//! `TOPLAKE_FUZZ_CASES` runs more than the few hundred mutated conversations of every day, and `TOPLAKE_FUZZ_SEED` others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use toplake::app::Front;
use toplake::pg::Options;

use super::engine::GIVEN;
use crate::harness::{Home, soon};

/// Panics on threads of a fuzzed server; all such servers of the process share it.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The name of their threads.
const THREADS: &str = "fuzzed-server";

/// A server on a runtime of its own, so that its tasks and panics can be told from those of other tests.
struct Fuzzed {
    runtime: Runtime,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    server: Option<tokio::task::JoinHandle<toplake::error::Result<()>>>,
    /// Tasks that are there without any client.
    idle: usize,
    _home: Home,
}

impl Fuzzed {
    fn start() -> Self {
        static HOOK: std::sync::Once = std::sync::Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if std::thread::current().name() == Some(THREADS) {
                    PANICS.fetch_add(1, Ordering::SeqCst);
                }
                before(panic);
            }));
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(THREADS)
            .enable_all()
            .build()
            .unwrap();
        let home = Home::new();
        let (port, stop, server) = runtime.block_on(async {
            let desk = home.desk().await;
            desk.run("CREATE TABLE t (a BIGINT, b VARCHAR)").await;
            desk.run("INSERT INTO t SELECT value, 'text of ' || value FROM generate_series(1, 500)").await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let (stop, stopped) = oneshot::channel::<()>();
            let front: Arc<dyn toplake::pg::Engine> = Front::new(desk.engine.clone());
            let options =
                Options { max_connections: 1_100, drain: Duration::from_secs(5), ..Options::default() };
            let server = tokio::spawn(toplake::pg::serve_with(listener, front, options, async {
                drop(stopped.await);
            }));
            (port, stop, server)
        });
        let mut fuzzed =
            Fuzzed { runtime, port, stop: Some(stop), server: Some(server), idle: 0, _home: home };
        // What the first client of each kind leaves for those after it is no leak.
        for (_, conversation) in conversations() {
            fuzzed.say(&conversation.concat(), 10_000, End::Patient);
        }
        fuzzed.idle = fuzzed.settled();
        fuzzed
    }

    /// Tasks, once there have been no fewer for a while.
    fn settled(&self) -> usize {
        let metrics = self.runtime.handle().metrics();
        let (mut least, mut since, begun) = (metrics.num_alive_tasks(), Instant::now(), Instant::now());
        while since.elapsed() < Duration::from_millis(500) && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
            let now = metrics.num_alive_tasks();
            if now < least {
                (least, since) = (now, Instant::now());
            }
        }
        least
    }

    async fn socket(port: u16) -> TcpStream {
        soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap()
    }

    /// Sends bytes in pieces, and reads what the server answers until it closes the connection.
    fn say(&self, bytes: &[u8], piece: usize, end: End) -> Vec<u8> {
        self.runtime.block_on(speak(self.port, bytes.to_vec(), piece, end))
    }

    /// What has to be true after anything.
    fn check(&self) {
        let begun = Instant::now();
        let metrics = self.runtime.handle().metrics();
        while metrics.num_alive_tasks() > self.idle {
            let left = metrics.num_alive_tasks() - self.idle;
            assert!(begun.elapsed() < Duration::from_secs(30), "{left} tasks are left");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "the server has panicked");
        let answer = self.say(
            &[startup(), query("SELECT 'still ' || 'here'"), frame(b'X', b"")].concat(),
            999,
            End::Half,
        );
        assert!(contains(&answer, b"still here"), "{}", String::from_utf8_lossy(&answer));
    }
}

impl Drop for Fuzzed {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let stopped = self.runtime.block_on(soon(server));
            if !std::thread::panicking() {
                stopped.unwrap().unwrap();
            }
        }
    }
}

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It listens until the server closes the connection.
    Patient,
    /// It closes its half once nothing has come for a moment, and listens to the end.
    Half,
    /// It is gone at once.
    Gone,
}

async fn speak(port: u16, bytes: Vec<u8>, piece: usize, end: End) -> Vec<u8> {
    let (mut read, mut write) = Fuzzed::socket(port).await.into_split();
    let said = tokio::spawn(async move {
        for piece in bytes.chunks(piece) {
            // The server may have closed it by now.
            if write.write_all(piece).await.is_err() {
                break;
            }
        }
        write
    });
    let mut answer = vec![];
    if !matches!(end, End::Gone) {
        let moment = match end {
            End::Half => MOMENT,
            _ => Duration::from_secs(60),
        };
        // An answer that goes on and on has been heard by then.
        while answer.len() < 4 << 20 {
            match tokio::time::timeout(moment, read.read_buf(&mut answer)).await {
                Ok(Ok(n)) if n > 0 => {}
                _ => break,
            }
        }
    }
    let mut write = soon(said).await.unwrap();
    if matches!(end, End::Half) {
        let _ = write.shutdown().await;
        let _ = soon((&mut read).take(4 << 20).read_to_end(&mut answer)).await;
    }
    answer
}

/// How long a client that closes its half waits for more.
const MOMENT: Duration = Duration::from_millis(20);

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend((body.len() as u32 + 4).to_be_bytes());
    frame.extend(body);
    frame
}

fn startup() -> Vec<u8> {
    b"\0\0\0\x16\0\x03\0\0user\0toplake\0\0".to_vec()
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

/// Prepares, binds one parameter, describes and runs.
fn extended(sql: &str, parameter: &[u8], limit: u8) -> Vec<Vec<u8>> {
    let parse = [b"s\0", sql.as_bytes(), b"\0\0\0"].concat();
    let length = (parameter.len() as u32).to_be_bytes();
    let bind = [b"p\0s\0\0\0\0\x01".as_slice(), &length, parameter, b"\0\x01\0\x01"].concat();
    vec![
        frame(b'P', &parse),
        frame(b'D', b"Ss\0"),
        frame(b'B', &bind),
        frame(b'D', b"Pp\0"),
        frame(b'E', &[b"p\0\0\0\0".as_slice(), &[limit]].concat()),
        frame(b'H', b""),
        frame(b'C', b"Pp\0"),
        frame(b'C', b"Ss\0"),
        frame(b'S', b""),
    ]
}

/// Conversations as drivers have them.
fn conversations() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let simple =
        ["SELECT 1; SELECT 'two'", "", "SHOW ALL", "SELECT nothing", "SELECT a FROM t ORDER BY a LIMIT 3"];
    let mut all = vec![
        (
            "encryption is asked for first",
            vec![b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(), startup(), query("SELECT 1")],
        ),
        ("cancel", vec![b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02".to_vec()]),
        ("simple", [vec![startup()], simple.iter().map(|sql| query(sql)).collect()].concat()),
        (
            "transactions and settings",
            vec![
                startup(),
                query("BEGIN"),
                query("SET LOCAL statement_timeout = 1000"),
                query("SELECT nothing"),
                query("ROLLBACK"),
                query("DISCARD ALL"),
            ],
        ),
        ("extended", [vec![startup()], extended("SELECT b FROM t WHERE a = $1", b"7", 0)].concat()),
        ("in parts", [vec![startup()], extended("SELECT * FROM t WHERE a > $1", b"7", 9)].concat()),
        (
            "copy in",
            vec![
                startup(),
                query("COPY t FROM STDIN (FORMAT csv, ON_ERROR ignore)"),
                frame(b'd', b"1,one\n2,\"two"),
                frame(b'd', b"\"\nx,three\n"),
                frame(b'f', b"enough\0"),
                query("COPY t (a) FROM STDIN"),
                frame(b'd', b"\\N\n"),
                frame(b'f', b"\0"),
            ],
        ),
        (
            "copy out",
            vec![startup(), query("COPY (SELECT * FROM t ORDER BY a LIMIT 20) TO STDOUT CSV HEADER")],
        ),
    ];
    for (_, conversation) in &mut all {
        conversation.push(frame(b'X', b""));
    }
    all
}

/// What is done to a conversation.
#[derive(Debug, Clone)]
enum Mutation {
    Flip { at: usize, bit: u8 },
    Set { at: usize, byte: u8 },
    Cut { at: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Length { message: usize, length: u32 },
    Swap { one: usize, other: usize },
    Double { message: usize },
    Drop { message: usize },
    Kind { message: usize, kind: u8 },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0usize..4_000;
    let message = 0usize..16;
    prop_oneof![
        3 => (at.clone(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        2 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set { at, byte }),
        1 => at.clone().prop_map(|at| Mutation::Cut { at }),
        1 => (at, prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Mutation::Insert { at, bytes }),
        2 => (message.clone(), prop_oneof![Just(0u32), Just(3), Just(4), Just(u32::MAX), Just(0x3fff_ffff), 0u32..64])
            .prop_map(|(message, length)| Mutation::Length { message, length }),
        2 => (message.clone(), message.clone()).prop_map(|(one, other)| Mutation::Swap { one, other }),
        2 => message.clone().prop_map(|message| Mutation::Double { message }),
        1 => message.clone().prop_map(|message| Mutation::Drop { message }),
        2 => (message, prop::sample::select(b"QPBDECSHXdcfpF\0Zz\xff".to_vec())).prop_map(|(message, kind)| Mutation::Kind { message, kind }),
    ]
}

fn mutate(mut messages: Vec<Vec<u8>>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let count = messages.len().max(1);
        match mutation {
            Mutation::Swap { one, other } if !messages.is_empty() => {
                messages.swap(one % count, other % count)
            }
            Mutation::Double { message } if !messages.is_empty() => {
                let again = messages[message % count].clone();
                messages.insert(message % count, again);
            }
            Mutation::Drop { message } if !messages.is_empty() => drop(messages.remove(message % count)),
            Mutation::Kind { message, kind } if !messages.is_empty() => messages[message % count][0] = *kind,
            Mutation::Length { message, length } if !messages.is_empty() => {
                let message = &mut messages[message % count];
                // The first message of a connection has no type.
                let from = usize::from(message[0] != 0);
                message[from..from + 4].copy_from_slice(&length.to_be_bytes());
            }
            _ => {}
        }
    }
    let mut bytes = messages.concat();
    for mutation in mutations {
        let length = bytes.len().max(1);
        match mutation {
            Mutation::Flip { at, bit } if !bytes.is_empty() => bytes[at % length] ^= 1 << bit,
            Mutation::Set { at, byte } if !bytes.is_empty() => bytes[at % length] = *byte,
            Mutation::Cut { at } => bytes.truncate(at % length),
            Mutation::Insert { at, bytes: more } => {
                let at = at % length.min(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            _ => {}
        }
    }
    bytes
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn mutated_conversations() {
    let server = Fuzzed::start();
    let config = Config {
        cases: from_environment("TOPLAKE_FUZZ_CASES", 150) as u32,
        rng_seed: RngSeed::Fixed(from_environment("TOPLAKE_FUZZ_SEED", 1)),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let corpus = conversations();
    let strategy = (
        0..corpus.len(),
        prop::collection::vec(mutation(), 1..5),
        prop_oneof![1usize..8, Just(100_000)],
        prop_oneof![3 => Just(End::Half), 1 => Just(End::Gone)],
    );
    TestRunner::new(config)
        .run(&strategy, |(which, mutations, piece, end)| {
            let bytes = mutate(corpus[which].1.clone(), &mutations);
            server.say(&bytes, piece, end);
            prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0, "the server has panicked");
            Ok(())
        })
        .unwrap();
    server.check();
}

#[test]
fn bytes_that_are_no_conversation() {
    let server = Fuzzed::start();
    let config = Config {
        cases: from_environment("TOPLAKE_FUZZ_CASES", 150) as u32,
        rng_seed: RngSeed::Fixed(from_environment("TOPLAKE_FUZZ_SEED", 1)),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let frames = prop::collection::vec(
        (
            prop::sample::select(b"QPBDECSHdcfp".to_vec()),
            prop::collection::vec(prop_oneof![any::<u8>(), Just(0u8)], 0..40),
        ),
        0..8,
    );
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    TestRunner::new(config)
        .run(&(any::<bool>(), frames, noise), |(started, frames, noise)| {
            let mut bytes = if started { startup() } else { vec![] };
            frames.iter().for_each(|(kind, body)| bytes.extend(frame(*kind, body)));
            bytes.extend(noise);
            server.say(&bytes, 64, End::Half);
            prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0, "the server has panicked");
            Ok(())
        })
        .unwrap();
    server.check();
}

#[test]
fn connections_that_end_at_every_byte() {
    let server = Fuzzed::start();
    for (name, conversation) in conversations() {
        // Text within a message is the same at each of its bytes: the ends and the first bytes of messages differ.
        let (mut cuts, mut begin) = (vec![], 0);
        for message in &conversation {
            cuts.extend(
                (0..message.len()).filter(|at| *at < 12 || at + 3 > message.len()).map(|at| begin + at),
            );
            begin += message.len();
        }
        let bytes = conversation.concat();
        let port = server.port;
        server.runtime.block_on(async {
            for some in cuts.chunks(16) {
                let ends = some.iter().map(|cut| {
                    let end = if cut.is_multiple_of(3) { End::Gone } else { End::Half };
                    speak(port, bytes[..*cut].to_vec(), 100_000, end)
                });
                futures::future::join_all(ends).await;
            }
        });
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{name}");
    }
    server.check();
}

#[test]
fn a_thousand_clients_that_say_nothing() {
    let server = Fuzzed::start();
    let mut idle = vec![];
    server.runtime.block_on(async {
        for i in 0..1_000 {
            let mut socket = Fuzzed::socket(server.port).await;
            // Some have not even said who they are.
            if i % 4 == 0 {
                soon(socket.write_all(&startup())).await.unwrap();
            }
            idle.push(socket);
        }
        for socket in idle.iter_mut().step_by(4) {
            let mut greeting = [0; 9];
            soon(socket.read_exact(&mut greeting)).await.unwrap();
            assert_eq!(greeting, *b"R\0\0\0\x08\0\0\0\0");
        }
    });
    // Others are served meanwhile.
    let answer =
        server.say(&[startup(), query("SELECT 40 + 2"), frame(b'X', b"")].concat(), 100, End::Patient);
    assert!(contains(&answer, b"42"));
    drop(idle);
    server.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_holds_up_its_own_query_only() {
    let server = super::Server::start().await;
    let asked = [startup(), query("SELECT repeat('x', 1000000) AS endless_rows")].concat();
    let mut deaf = vec![];
    for _ in 0..4 {
        let mut socket = Fuzzed::socket(server.port).await;
        soon(socket.write_all(&asked)).await.unwrap();
        deaf.push(socket);
    }
    // The queries wait when the sockets are full: a few batches of a megabyte each.
    let (mut before, mut since, begun) = (0, Instant::now(), Instant::now());
    while before == 0 || since.elapsed() < Duration::from_secs(1) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the server goes on for clients that read nothing"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = GIVEN.load(Ordering::SeqCst);
        if now > before {
            (before, since) = (now, Instant::now());
        }
    }
    assert!(before < 100, "{before} batches were made for 4 clients that read nothing");
    assert_eq!(super::text(&server.connect().await, "SELECT 40 + 2").await, "42");
    // One that reads after all gets on.
    let mut heard = vec![0; 20 << 20];
    soon(deaf[0].read_exact(&mut heard)).await.unwrap();
    assert!(GIVEN.load(Ordering::SeqCst) > before);
    drop(deaf);
    server.stop().await;
}
