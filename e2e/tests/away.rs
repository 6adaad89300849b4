//! Programs whose API goes away, for a moment or for good: what they say, and what they do.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rdd_e2e::{Lab, Program, kill, wait_until};

const LOST: &str = "the API is not reached";
const BACK: &str = "the API is reached again";

/// Passes connections on to another address; whoever drops it cuts them all.
struct Relay {
    address: SocketAddr,
    end: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on this port, or on any free one.
    fn new(port: u16, to: &str) -> Self {
        // A connection that has just been cut keeps the port for a moment.
        let mut listener = None;
        wait_until("the port is free", || {
            listener = TcpListener::bind(("127.0.0.1", port)).ok();
            listener.is_some()
        });
        let listener = listener.expect("it listens");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a port");
        let (end, ended) = channel();
        let to = to.to_owned();
        let thread = std::thread::spawn(move || relay(&listener, &to, &ended));
        Self {
            address,
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Gone already when its thread has panicked, which the join tells.
        let _heard = self.end.send(());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

fn relay(listener: &TcpListener, to: &str, ended: &Receiver<()>) {
    let mut open: Vec<TcpStream> = Vec::new();
    while ended.try_recv().is_err() {
        match listener.accept() {
            Ok((near, _)) => {
                near.set_nonblocking(false).expect("a socket");
                let far = TcpStream::connect(to).expect("the control plane listens");
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let mut from = from.try_clone().expect("a socket");
                    let mut into = into.try_clone().expect("a socket");
                    std::thread::spawn(move || {
                        // Either side may have gone; the other is told.
                        let _copied = io::copy(&mut from, &mut into);
                        let _told = into.shutdown(Shutdown::Both);
                    });
                }
                open.extend([near, far]);
            }
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    }
    for stream in open {
        // Many have ended by themselves.
        let _cut = stream.shutdown(Shutdown::Both);
    }
}

/// The kubeconfig of the lab's control plane, through a relay.
fn through(lab: &Lab, relay: &Relay, server: &str) -> String {
    let config = std::fs::read_to_string(lab.path("config")).expect("it runs");
    let file = lab.home().join("relayed.yaml");
    let relayed = config.replace(server, &relay.address.to_string());
    assert_ne!(relayed, config);
    std::fs::write(&file, relayed).expect("writes");
    file.display().to_string()
}

fn server(lab: &Lab) -> String {
    let url = "jsonpath={.clusters[0].cluster.server}";
    let url = lab.run(&["ctl", "config", "view", "-o", url]).ok();
    url.strip_prefix("https://").expect("a URL").to_owned()
}

fn times(program: &Program, words: &str) -> usize {
    program.said().matches(words).count()
}

fn notarise(lab: &Lab, name: &str) {
    let file = lab.home().join(format!("{name}.json"));
    let text = format!(
        r#"{{"apiVersion":"rdd.rancherdesktop.io/v1alpha1","kind":"Notary","metadata":{{"name":"{name}"}},"spec":{{"value":"a","configMapName":"{name}-log"}}}}"#
    );
    std::fs::write(&file, text).expect("writes");
    lab.run(&["ctl", "create", "-f", &file.display().to_string()])
        .ok();
    wait_until("it is recorded", || {
        let path = "jsonpath={.status.changeCount}";
        lab.run(&["ctl", "get", "notary", name, "-o", path]).stdout == "1"
    });
}

#[test]
fn a_short_absence_is_told_once_at_each_end_and_survived() {
    let lab = Lab::new("absence");
    lab.rdd("svc start --controllers=").ok();
    let server = server(&lab);
    let mut relay = Relay::new(0, &server);
    let config = through(&lab, &relay, &server);
    let mut program = lab.program("rdd-controller", &["--kubeconfig", &config]);
    wait_until("it runs", || {
        program.said().contains("the controllers are running")
    });
    notarise(&lab, "before");
    for round in 1..=2 {
        let port = relay.address.port();
        drop(relay);
        wait_until("it misses the API", || times(&program, LOST) == round);
        relay = Relay::new(port, &server);
        wait_until("it is back", || times(&program, BACK) == round);
        notarise(&lab, &format!("after{round}"));
    }
    assert!(program.lives());
    let said = program.said();
    assert_eq!(said.matches("level=warning").count(), 2, "{said}");
    program.signal("TERM");
    assert_eq!(program.ends(), 0, "{}", program.said());
}

#[test]
fn a_program_says_little_while_its_control_plane_is_gone() {
    let lab = Lab::new("quiet");
    for (program, controllers) in [
        ("rdd-controller", ""),
        ("app-controller", ""),
        ("containers-controller", ""),
        ("mock-controller", "containers,-engine"),
    ] {
        lab.rdd(&format!("svc start --controllers={controllers}"))
            .ok();
        let mut running = lab.program(program, &[]);
        wait_until("it runs", || {
            running.said().contains("the controllers are running")
        });
        let before = running.said().lines().count();
        kill(lab.pid());
        assert_eq!(running.ends(), 0, "{}", running.said());
        let said = running.said();
        let after: Vec<&str> = said.lines().skip(before).collect();
        assert_eq!(said.matches(LOST).count(), 1, "{said}");
        // That it is lost, that it leaves, what it could not take back, and that it ended.
        assert!(after.len() <= 8, "{program}: {said}");
    }
}
