//! A runner whose commands are decided by somebody else: here the test, one at a time.

use super::*;
use crate::control::fold::apply;
use crate::control::journal::{Link, News, Sent};

/// Has what was sent wait until the test decides about it.
#[derive(Default)]
struct Deciding {
    sent: Mutex<Vec<Command>>,
    shared: Mutex<Vec<Digest>>,
    /// The next command cannot be sent.
    fails: Mutex<bool>,
    /// Says that the last command was taken.
    taken: Mutex<Option<JoinHandle<()>>>,
    changed: Condvar,
}

impl Link for Deciding {
    fn send(&self, _: &str, command: &Command, sent: Sent) {
        if std::mem::take(&mut *self.fails.lock().unwrap()) {
            std::thread::spawn(move || sent(Err("the brokers are away".into())));
            return;
        }
        let mut all = self.sent.lock().unwrap();
        all.push(command.clone());
        let number = all.len() as i64 - 1;
        // A broker takes commands in their order, and says so in it.
        let before = self.taken.lock().unwrap().take();
        *self.taken.lock().unwrap() = Some(std::thread::spawn(move || {
            before.into_iter().for_each(|before| before.join().unwrap());
            sent(Ok(number));
        }));
        self.changed.notify_all();
    }

    fn share(&self, _: &str, artifacts: Vec<Digest>) {
        *self.shared.lock().unwrap() = artifacts;
    }

    fn daemon(&self) -> &str {
        "eu-1"
    }

    fn decides_here(&self) -> bool {
        false
    }
}

struct Shared {
    link: Arc<Deciding>,
    stand: Stand,
    tell: Box<dyn Fn(News) + Send>,
    news: News,
}

fn shared(journal: Arc<InMemory>) -> Shared {
    let (link, slot) = (Arc::new(Deciding::default()), Arc::new(Slot::new().unwrap()));
    let stage = Arc::new(move |deployment: &Deployment, _: Trust| {
        Ok(Opened { workers: vec![deployment.revision.get()], scorer: None })
    });
    let of_runner: Arc<dyn Link> = link.clone();
    let slots = Slots { workers: vec![slot.clone()], feedback: None };
    let (runner, inbox, holds) =
        Runner::new("iris", false, journal.clone(), Some(of_runner), stage, Box::new(Nothing), slots).unwrap();
    let thread = runner.start().unwrap();
    let tell = inbox.news();
    let stand = Stand {
        journal,
        gate: Arc::default(),
        slot,
        inbox,
        hold: holds.main,
        scoring: holds.feedback,
        thread: Some(thread),
    };
    let control = Control { pipeline: "iris".into(), is_shared: true, ..Control::default() };
    Shared { link, stand, tell, news: News { control, is_whole: true, ..News::default() } }
}

impl Shared {
    /// Waits for that many commands, decides about those that are new, and says so.
    fn decide(&mut self, count: usize) {
        let sent = self.link.sent.lock().unwrap();
        let sent = self.link.changed.wait_while(sent, |sent| sent.len() < count).unwrap();
        for (number, command) in sent.iter().enumerate().take(count).skip(self.news.position as usize) {
            let command = Command { id: CommandId(number as u64), ..command.clone() };
            match apply(&self.news.control, &command, 0) {
                Ok(applied) => {
                    self.news.control = applied.next;
                    self.news.answers.extend(applied.answers);
                }
                Err(refused) => drop(self.news.answers.insert(command.id, Err(refused))),
            }
            self.news.position = number as i64 + 1;
        }
        drop(sent);
        (self.tell)(self.news.clone());
    }

    /// Runs revision 1.
    fn running() -> Self {
        let mut shared = shared(Arc::default());
        (shared.tell)(shared.news.clone());
        let inbox = shared.stand.inbox.clone();
        let wish = Action::Wish { releases: Box::new(releases("tree")), reason: "applied".into() };
        let asking = std::thread::spawn(move || inbox.ask(None, wish));
        shared.decide(1);
        // It is staged here, and said.
        shared.decide(2);
        assert!(matches!(asking.join().unwrap(), Ok(Outcome::Activated { .. })));
        shared.stand.inbox.ready().unwrap().recv().unwrap();
        assert_eq!(shared.stand.slot.take(), Some(1));
        shared
    }
}

#[test]
fn a_command_is_answered_when_its_answer_is_heard_and_a_copy_is_kept() {
    let mut shared = Shared::running();
    let inbox = shared.stand.inbox.clone();
    let asking = std::thread::spawn(move || inbox.ask(None, Action::Pause { reason: "lunch".into() }));
    shared.decide(3);
    assert!(matches!(asking.join().unwrap(), Ok(Outcome::Paused { .. })));
    assert!(shared.stand.hold.is_on());
    assert_eq!(shared.stand.journal.0.lock().unwrap().0.history, *shared.news.control.history);
    let inbox = shared.stand.inbox.clone();
    let asking = std::thread::spawn(move || inbox.ask(None, Action::Pause { reason: "more".into() }));
    shared.decide(4);
    assert!(matches!(asking.join().unwrap(), Err(Refused::PausedAlready { .. })));
}

#[test]
fn a_worker_that_failed_stands_still_until_that_is_decided_whatever_is_heard_meanwhile() {
    let mut shared = Shared::running();
    shared.stand.hold.fail(Some(Revision::FIRST), "it traps".into());
    (shared.tell)(shared.news.clone());
    let sent = shared.link.sent.lock().unwrap();
    drop(shared.link.changed.wait_while(sent, |sent| sent.len() < 3).unwrap());
    assert!(shared.stand.hold.is_on(), "not decided yet");
    shared.decide(3);
    shared.stand.inbox.until_heard().unwrap();
    assert!(shared.stand.inbox.snapshot().history.paused.is_some(), "there is nothing to go back to");
    let inbox = shared.stand.inbox.clone();
    let asking = std::thread::spawn(move || inbox.ask(None, Action::Resume));
    shared.decide(4);
    asking.join().unwrap().unwrap();
    assert!(!shared.stand.hold.is_on());
}

#[test]
fn what_a_worker_has_reported_is_sent_again_when_it_could_not_be_and_people_are_told() {
    let mut shared = Shared::running();
    *shared.link.fails.lock().unwrap() = true;
    let refused = shared.stand.inbox.ask(None, Action::Resume).unwrap_err().to_string();
    assert!(refused.contains("the brokers are away"), "{refused}");
    *shared.link.fails.lock().unwrap() = true;
    shared.stand.hold.fail(Some(Revision::FIRST), "it traps".into());
    shared.decide(3);
    assert!(matches!(shared.link.sent.lock().unwrap()[2].action, Action::Failed { .. }));
}

#[test]
fn a_journal_that_has_less_is_given_what_this_daemon_remembers_and_is_not_followed() {
    let journal = Arc::new(InMemory::default());
    {
        let mut running = Shared::running();
        let inbox = running.stand.inbox.clone();
        let asking = std::thread::spawn(move || inbox.ask(None, deploy("forest", "better")));
        running.decide(3);
        running.decide(4);
        asking.join().unwrap().unwrap();
        journal.0.lock().unwrap().0 = running.stand.journal.0.lock().unwrap().0.clone();
    }
    let mut shared = shared(journal);
    (shared.tell)(shared.news.clone());
    shared.decide(1);
    assert!(matches!(&shared.link.sent.lock().unwrap()[0].action, Action::Restore { .. }));
    shared.stand.inbox.ready().unwrap().recv().unwrap();
    assert_eq!(shared.stand.slot.take(), Some(2));
    assert_eq!(*shared.link.shared.lock().unwrap(), [b"forest" as &[u8], b"loss"].map(Digest::of));
}

#[test]
fn workers_of_a_daemon_that_stops_are_waited_for_no_more() {
    let shared = Shared::running();
    let link = shared.link.clone();
    drop(shared);
    let last = link.sent.lock().unwrap().last().cloned().unwrap();
    assert_eq!((last.from.as_str(), last.action), ("eu-1", Action::Leaves));
}
