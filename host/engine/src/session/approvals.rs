//! The open approvals of all runs, and which client answers each of them.
//!
//! An attempt opens an approval when its CLI waits for a decision that no policy has made. Clients list and answer it.
//! Exactly one answer wins: the first client takes the approval, its answer goes to the thread of the attempt, and only
//! if the CLI cannot take it is the approval open again. The attempt closes it when the answer was passed on, when
//! nobody answered in time, when the CLI withdraws its request, or at its own end. Closed ones are remembered for a
//! while, so that whoever comes late learns who was first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::answer;
use super::command::{Client, RunCommand, reply, run_ended};
use crate::queue::active_run::ActiveRun;
use ostler_protocol::methods::AnswerApprovalParams;
use ostler_protocol::{
    ApiError, Approval, ApprovalDecider, ApprovalDecision, ApprovalId, ApprovalKind, ApprovalVerdict, ErrorKind, RunId,
    WaitingFor,
};

/// Closed approvals that are remembered.
const MAX_CLOSED: usize = 1000;

/// The approvals of all runs. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Approvals {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Ids sort by the time of their creation.
    open: BTreeMap<ApprovalId, Open>,
    closed: VecDeque<(ApprovalId, RunId, Closed)>,
}

#[derive(Debug)]
struct Open {
    approval: Approval,
    run: Arc<ActiveRun>,
    /// The client whose answer is on its way.
    answering: Option<Client>,
}

/// Why an approval is no longer open.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Closed {
    /// It was decided.
    Decided(ApprovalDecision),
    /// The CLI no longer waits for it.
    Withdrawn,
    /// The run has ended.
    RunEnded,
}

impl Approvals {
    /// The open approvals, oldest first.
    pub(crate) fn list(&self, run: Option<RunId>) -> Vec<Approval> {
        let state = self.lock();
        let all = state.open.values().map(|open| &open.approval);
        all.filter(|approval| run.is_none_or(|run| approval.run_id == run)).cloned().collect()
    }

    /// What a run waits for and since when, if it has an open approval.
    pub(crate) fn waiting(&self, run: RunId) -> Option<(WaitingFor, Timestamp)> {
        let state = self.lock();
        let first = state.open.values().map(|open| &open.approval).find(|approval| approval.run_id == run)?;
        let what = match first.kind {
            ApprovalKind::Question | ApprovalKind::Elicitation => WaitingFor::Question,
            _ => WaitingFor::Approval,
        };
        Some((what, first.opened_at))
    }

    /// Answers an approval for a user. Blocks until the CLI has the answer.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown approval, `CONFLICT` if it is closed or another client answers it, `INVALID_PARAMS`
    /// for an answer that does not fit it.
    pub(crate) fn answer(&self, params: &AnswerApprovalParams, client: &Client) -> Result<ApprovalDecision, ApiError> {
        let id = params.request_id;
        let (decision, secrets, run) = {
            let mut state = self.lock();
            let Some(open) = state.open.get_mut(&id).filter(|open| open.approval.run_id == params.run_id) else {
                return Err(state.why_closed(id, params.run_id));
            };
            let decision = answer::check(&open.approval, params)?;
            if let Some(first) = &open.answering {
                let Client { actor, interface } = first;
                let message = format!("{actor} ({interface}) is answering this approval");
                return Err(ApiError::new(ErrorKind::Conflict, message));
            }
            let secrets = answer::secrets(&open.approval, params);
            open.answering = Some(client.clone());
            (decision, secrets, Arc::clone(&open.run))
        };
        let (reply, result) = reply();
        let command = RunCommand::Answer { id, decision, secrets, client: client.clone(), reply };
        let result = match run.send(command) {
            Ok(()) => result.wait(),
            Err(refused) => Err(refused),
        };
        let mut state = self.lock();
        if let Some(open) = state.open.get_mut(&id) {
            open.answering = None;
        }
        match (result, state.closed(id, params.run_id)) {
            (Ok(()), Some(Closed::Decided(decision))) => Ok(decision.clone()),
            // The attempt has closed it first: with the decision of another, or because the CLI withdrew it.
            (Err(error), Some(closed)) if error.kind == ErrorKind::Conflict => Err(closed.error()),
            (Err(error), _) => Err(error),
            (Ok(()), _) => Err(run_ended()),
        }
    }

    /// Opens an approval of a run.
    pub(crate) fn open(&self, approval: Approval, run: &Arc<ActiveRun>) {
        let open = Open { run: Arc::clone(run), answering: None, approval };
        self.lock().open.insert(open.approval.id, open);
    }

    /// Closes an approval. Has no effect if it is not open.
    pub(crate) fn close(&self, id: ApprovalId, closed: Closed) {
        let mut state = self.lock();
        if let Some(open) = state.open.remove(&id) {
            state.remember(id, open.approval.run_id, closed);
        }
    }

    /// Closes all approvals of a run that has ended.
    pub(crate) fn close_run(&self, run: RunId) {
        let mut state = self.lock();
        let of_run: Vec<ApprovalId> =
            state.open.iter().filter(|(_, open)| open.approval.run_id == run).map(|(id, _)| *id).collect();
        for id in of_run {
            state.open.remove(&id);
            state.remember(id, run, Closed::RunEnded);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, id: ApprovalId, run: RunId, closed: Closed) {
        if self.closed.len() >= MAX_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back((id, run, closed));
    }

    fn closed(&self, id: ApprovalId, run: RunId) -> Option<&Closed> {
        self.closed.iter().rev().find(|(closed, of, _)| *closed == id && *of == run).map(|(_, _, closed)| closed)
    }

    fn why_closed(&self, id: ApprovalId, run: RunId) -> ApiError {
        match self.closed(id, run) {
            Some(closed) => closed.error(),
            None => ApiError::new(ErrorKind::NotFound, format!("run {run} has no approval {id}"))
                .at("/requestId")
                .hint("`list_approvals` lists the open ones"),
        }
    }
}

impl Closed {
    fn error(&self) -> ApiError {
        let message = match self {
            Self::Withdrawn => "the CLI no longer waits for this approval".to_owned(),
            Self::RunEnded => "the run has ended, and with it this approval".to_owned(),
            Self::Decided(decision) => {
                let verdict = match decision.decision {
                    ApprovalVerdict::Allow => "allowed",
                    ApprovalVerdict::Deny => "denied",
                };
                let by = match (decision.decided_by, &decision.actor, &decision.client) {
                    (ApprovalDecider::Timeout, ..) => "because nobody answered in time".to_owned(),
                    (ApprovalDecider::Policy, Some(policy), _) => format!("by the policy {policy}"),
                    (_, Some(actor), Some(client)) => format!("by {actor} ({client})"),
                    (_, Some(actor), None) => format!("by {actor}"),
                    _ => "by the host".to_owned(),
                };
                format!("this approval was already {verdict} {by}")
            }
        };
        ApiError::new(ErrorKind::Conflict, message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::mpsc::{Receiver, channel};

    use ostler_plugin_host::types::Decision;

    use super::*;

    fn approval(run: RunId) -> Approval {
        Approval {
            id: ApprovalId::generate(),
            run_id: run,
            provider: "codex".to_owned(),
            kind: ApprovalKind::Command,
            title: "run ls".to_owned(),
            command: Some("ls".to_owned()),
            cwd: None,
            diff: None,
            reason: None,
            questions: Vec::new(),
            input: None,
            editable: true,
            opened_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            deny_by_default: false,
        }
    }

    /// A run whose child runs, and the wake-ups of its thread.
    fn running() -> (Arc<ActiveRun>, Receiver<()>) {
        let (sender, woken) = channel();
        let run = ActiveRun::new(RunId::generate());
        run.attach(move || _ = sender.send(()));
        (run, woken)
    }

    fn client(pid: u32) -> Client {
        Client { actor: format!("unix pid={pid} uid=1"), interface: "cli".to_owned() }
    }

    fn allow(approval: &Approval) -> AnswerApprovalParams {
        AnswerApprovalParams {
            run_id: approval.run_id,
            request_id: approval.id,
            allow: Some(true),
            message: None,
            input: None,
            answers: None,
            stop_turn: false,
        }
    }

    /// Takes the next answer as the thread of the attempt does.
    fn take(run: &ActiveRun, woken: &Receiver<()>) -> (Decision, Client, crate::session::command::Reply<()>) {
        woken.recv().unwrap();
        match run.take_commands().pop().unwrap() {
            RunCommand::Answer { decision, client, reply, .. } => (decision, client, reply),
            other => panic!("{other:?}"),
        }
    }

    fn decided(approval: &Approval, client: &Client) -> Closed {
        Closed::Decided(ApprovalDecision {
            request_id: approval.id,
            call_id: String::new(),
            decision: ApprovalVerdict::Allow,
            decided_by: ApprovalDecider::User,
            actor: Some(client.actor.clone()),
            client: Some(client.interface.clone()),
            message: None,
            edited: false,
            stop_turn: false,
        })
    }

    #[test]
    fn first_of_two_answers_wins_and_the_second_client_learns_who_answered() {
        let (approvals, (run, woken)) = (Approvals::default(), running());
        let approval = approval(run.run());
        approvals.open(approval.clone(), &run);
        assert_eq!(approvals.waiting(run.run()), Some((WaitingFor::Approval, Timestamp::UNIX_EPOCH)));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| approvals.answer(&allow(&approval), &client(1)));
            let (decision, by, reply) = take(&run, &woken);
            assert!(decision.allow && by == client(1));
            let early = approvals.answer(&allow(&approval), &client(2)).unwrap_err();
            assert_eq!((early.kind, early.message.contains("pid=1")), (ErrorKind::Conflict, true), "{early:?}");
            approvals.close(approval.id, decided(&approval, &by));
            reply.send(Ok(())).unwrap();
            assert_eq!(first.join().unwrap().unwrap().actor.unwrap(), "unix pid=1 uid=1");
        });
        let late = approvals.answer(&allow(&approval), &client(2)).unwrap_err();
        assert_eq!(late.message, "this approval was already allowed by unix pid=1 uid=1 (cli)");
        assert!(approvals.list(None).is_empty() && approvals.waiting(run.run()).is_none());
    }

    #[test]
    fn approval_stays_open_if_the_cli_cannot_take_the_answer() {
        let (approvals, (run, woken)) = (Approvals::default(), running());
        let approval = approval(run.run());
        approvals.open(approval.clone(), &run);
        std::thread::scope(|scope| {
            let answering = scope.spawn(|| approvals.answer(&allow(&approval), &client(1)));
            let (_, _, reply) = take(&run, &woken);
            reply.send(Err(ApiError::new(ErrorKind::InvalidParams, "no"))).unwrap();
            assert_eq!(answering.join().unwrap().unwrap_err().kind, ErrorKind::InvalidParams);
        });
        assert_eq!(approvals.list(Some(run.run())), [approval]);
    }

    #[test]
    fn answer_to_an_approval_that_is_withdrawn_meanwhile_is_a_conflict() {
        let (approvals, (run, woken)) = (Approvals::default(), running());
        let approval = approval(run.run());
        approvals.open(approval.clone(), &run);
        std::thread::scope(|scope| {
            let answering = scope.spawn(|| approvals.answer(&allow(&approval), &client(1)));
            let (_, _, reply) = take(&run, &woken);
            approvals.close(approval.id, Closed::Withdrawn);
            reply.send(Err(ApiError::new(ErrorKind::Conflict, "closed"))).unwrap();
            let error = answering.join().unwrap().unwrap_err();
            assert_eq!(error.message, "the CLI no longer waits for this approval");
        });
    }

    #[test]
    fn end_of_a_run_closes_its_approvals_and_ends_an_answer_that_is_under_way() {
        let (approvals, (run, woken)) = (Approvals::default(), running());
        let (own, other) = (approval(run.run()), approval(RunId::generate()));
        approvals.open(own.clone(), &run);
        approvals.open(other.clone(), &run);
        std::thread::scope(|scope| {
            let answering = scope.spawn(|| approvals.answer(&allow(&own), &client(1)));
            woken.recv().unwrap();
            approvals.close_run(run.run());
            run.detach();
            let error = answering.join().unwrap().unwrap_err();
            assert_eq!(error.message, "the run has ended, and with it this approval");
        });
        assert_eq!(approvals.list(None), std::slice::from_ref(&other));
        let error = approvals.answer(&allow(&other), &client(1)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "no child runs");
    }

    #[test]
    fn unknown_approval_is_not_found_and_closed_ones_are_remembered_for_a_while() {
        let (approvals, (run, _woken)) = (Approvals::default(), running());
        let first = approval(run.run());
        assert_eq!(approvals.answer(&allow(&first), &client(1)).unwrap_err().kind, ErrorKind::NotFound);
        approvals.open(first.clone(), &run);
        approvals.close(first.id, Closed::Withdrawn);
        assert_eq!(approvals.answer(&allow(&first), &client(1)).unwrap_err().kind, ErrorKind::Conflict);
        let wrong_run = AnswerApprovalParams { run_id: RunId::generate(), ..allow(&first) };
        assert_eq!(approvals.answer(&wrong_run, &client(1)).unwrap_err().kind, ErrorKind::NotFound);
        for _ in 0..MAX_CLOSED {
            let next = approval(run.run());
            approvals.open(next.clone(), &run);
            approvals.close(next.id, Closed::Withdrawn);
        }
        assert_eq!(approvals.answer(&allow(&first), &client(1)).unwrap_err().kind, ErrorKind::NotFound);
    }
}
