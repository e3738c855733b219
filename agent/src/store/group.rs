//! The group commit.
//!
//! A commit costs a sync of the card, 4 ms and more, whatever is in it. So the writer takes everything that waits, runs each
//! closure under a savepoint, commits once and answers all. If several came last time, it waits up to a millisecond for
//! as many again; a lone client never waits.
//!
//! For a savepoint SQLite keeps every page as it was before it, in memory, because no temporary file may hold what is
//! encrypted elsewhere. So a closure that is alone has none, and one that changes as much as there is of something, such as
//! the names of all that is unsent, is always alone: then what is too much for the cache goes to the log, and the box needs no
//! more memory for it.
//!
//! It is told on which connection it works: while the database gets another key, something else works on the same one between
//! the commits (`renew.rs`).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rusqlite::Connection;
use tracing::error;

use super::Options;
use super::codec::Codec;
use super::soundness::try_writing;
use super::tx::{Cache, Tx};
use super::writer::{Answer, Call, Failure, Job, News, Outcome};
use crate::error::Error;

/// How closures are committed together.
pub(super) struct GroupCommit {
    codec: Codec,
    dir: PathBuf,
    options: Options,
    news: News,
    commits: Arc<AtomicU64>,
    /// What is in memory of the database; `None` after a commit failed.
    cache: Option<Cache>,
    /// SQLite's sign that another program has written.
    data_version: i64,
    /// Closures in the last group: as many may come again.
    expected: usize,
    /// What came in the middle of a group and is no closure.
    later: Option<Call>,
}

impl GroupCommit {
    /// Reads what is kept in memory of the database.
    pub(super) fn new(
        db: &Connection,
        codec: Codec,
        dir: &Path,
        options: Options,
        news: News,
        commits: Arc<AtomicU64>,
    ) -> Result<GroupCommit, Error> {
        let dir = dir.to_owned();
        let mut new =
            GroupCommit { codec, dir, options, news, commits, cache: None, data_version: 0, expected: 1, later: None };
        let cache = new.fresh_cache(db)?;
        try_writing(db, &cache)?;
        new.news.publish(&cache);
        new.cache = Some(cache);
        Ok(new)
    }

    /// What is in memory of the database.
    pub(super) fn cache(&mut self) -> Option<&mut Cache> {
        self.cache.as_mut()
    }

    /// What came in the middle of a group.
    pub(super) fn later(&mut self) -> Option<Call> {
        self.later.take()
    }

    /// Goes on with another connection, to a database with the same in it.
    pub(super) fn move_to(&mut self, db: &Connection) -> Result<(), Error> {
        self.data_version = version(db)?;
        Ok(())
    }

    /// Commits this closure and those that wait with it.
    pub(super) fn serve(&mut self, db: &Connection, calls: &Receiver<Call>, first: Box<dyn Job>) {
        let mut group = self.gather(calls, first);
        self.expected = group.len();
        while !group.is_empty() {
            self.commit(db, &mut group);
        }
    }

    fn gather(&mut self, calls: &Receiver<Call>, first: Box<dyn Job>) -> VecDeque<Box<dyn Job>> {
        let max = self.options.group_max.max(1);
        let mut group = VecDeque::from([first]);
        let deadline = Instant::now() + self.options.linger;
        while group.len() < max {
            let next = match calls.try_recv() {
                Ok(call) => Ok(call),
                Err(_) if group.len() >= self.expected => break,
                Err(_) => calls.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match next {
                Ok(Call::Work(job)) => group.push_back(job),
                Ok(call) => {
                    self.later = Some(call);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    /// Takes closures off the group and commits them; leaves those that a failing disk took the transaction away from.
    fn commit(&mut self, db: &Connection, jobs: &mut VecDeque<Box<dyn Job>>) {
        let mut group = match self.begin_group(db) {
            Ok(group) => group,
            Err(error) => {
                jobs.drain(..).for_each(|job| job.refuse(error.again()));
                return;
            }
        };
        let is_large = |job: Option<&Box<dyn Job>>| job.is_some_and(|job| job.is_large());
        let is_alone = jobs.len() == 1 || is_large(jobs.front());
        let mut failure = None;
        while let Some(job) = jobs.pop_front() {
            failure = self.add(db, &mut group, job, is_alone).err();
            if failure.is_some() || is_alone || is_large(jobs.front()) {
                break;
            }
        }
        // Everybody was told, and the error is in the log.
        let _ = self.end_group(db, group, failure);
    }

    /// Begins a transaction for closures that will share it.
    pub(super) fn begin_group(&mut self, db: &Connection) -> Result<Group, Error> {
        match self.begin(db) {
            Ok(cache) => Ok(Group { cache, written: db.total_changes(), done: Vec::new(), is_full: false }),
            Err(error) => {
                let _ = db.execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Runs one closure in the transaction of a group. An error if the transaction is lost; then the group is to be ended
    /// with it. Nothing else may come into the transaction of one that `is_alone`.
    pub(super) fn add(
        &self,
        db: &Connection,
        group: &mut Group,
        job: Box<dyn Job + '_>,
        is_alone: bool,
    ) -> Result<(), Error> {
        let mut failure = None;
        match self.run_one(db, job, &mut group.cache, is_alone) {
            Ok(Ran::Kept(answer)) => group.done.push(answer),
            Ok(Ran::Undone) => {}
            Ok(Ran::NoRoom) => group.is_full = true,
            Err(error) => failure = Some(error),
        }
        if db.is_autocommit() {
            // A full or failing disk makes SQLite undo the whole transaction at once.
            failure.get_or_insert_with(|| if group.is_full { Error::no_room() } else { Error::GroupLost });
        }
        failure.map_or(Ok(()), Err)
    }

    /// Commits a group and answers its callers; or tells them this failure, which took the transaction away.
    pub(super) fn end_group(&mut self, db: &Connection, group: Group, failure: Option<Error>) -> Result<(), Error> {
        let Group { mut cache, written, done, is_full } = group;
        let result = match failure {
            Some(error) => Err(error),
            None if done.is_empty() => db.execute_batch("ROLLBACK").map_err(Error::from),
            None => self.end(db, &mut cache),
        };
        match &result {
            Ok(()) => {
                if is_full || db.total_changes() > written {
                    self.codec.health().set_full(is_full);
                }
                self.news.publish(&cache);
                self.cache = Some(cache);
                done.into_iter().for_each(|answer| answer(None));
            }
            Err(error) => {
                if error.is_disk_full() {
                    self.codec.health().set_full(true);
                }
                error!(error = error as &dyn std::error::Error, lost = done.len(), "a commit failed");
                if !db.is_autocommit() {
                    let _ = db.execute_batch("ROLLBACK");
                }
                done.into_iter().for_each(|answer| answer(Some(error.again())));
            }
        }
        result
    }

    /// Runs a closure under a savepoint, unless it `is_alone`: then the end of the group undoes it. An error if the savepoint
    /// could not be handled, in which case the closure's caller has been told so.
    fn run_one(
        &self,
        db: &Connection,
        job: Box<dyn Job + '_>,
        cache: &mut Cache,
        is_alone: bool,
    ) -> Result<Ran, Error> {
        let before = cache.clone();
        let savepoint = |sql: &str| if is_alone { Ok(()) } else { self::sql(db, sql) };
        if let Err(error) = savepoint("SAVEPOINT one") {
            job.refuse(error.again());
            return Err(error);
        }
        let mut tx = Tx::new(db, &self.codec, cache, &self.dir, self.options.version);
        let Outcome { is_kept, mut is_disk_full, answer } = job.run(&mut tx);
        let flushed = if is_kept { tx.end() } else { Ok(()) };
        let failure = match (is_kept, flushed) {
            (true, Ok(())) => match savepoint("RELEASE one") {
                Ok(()) => return Ok(Ran::Kept(answer)),
                Err(error) => {
                    answer(Some(error.again()));
                    return Err(error);
                }
            },
            (_, flushed) => flushed.err(),
        };
        *cache = before;
        let undone = match db.is_autocommit() {
            true => Ok(()),
            false => savepoint("ROLLBACK TO one").and_then(|()| savepoint("RELEASE one")),
        };
        is_disk_full |= failure.as_ref().is_some_and(Failure::is_disk_full);
        if is_disk_full {
            // Before the answer: whoever is told finds the same in the status.
            self.codec.health().set_full(true);
        }
        answer(failure);
        undone.map(|()| if is_disk_full { Ran::NoRoom } else { Ran::Undone })
    }

    fn begin(&mut self, db: &Connection) -> Result<Cache, Error> {
        sql(db, "BEGIN IMMEDIATE")?;
        let version = version(db)?;
        match self.cache.take() {
            Some(cache) if version == self.data_version => Ok(cache),
            _ => self.fresh_cache(db),
        }
    }

    fn end(&mut self, db: &Connection, cache: &mut Cache) -> Result<(), Error> {
        cache.write(db)?;
        sql(db, "COMMIT")?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn fresh_cache(&mut self, db: &Connection) -> Result<Cache, Error> {
        self.data_version = version(db)?;
        Cache::load(db)
    }
}

/// SQLite's sign that another program has written.
fn version(db: &Connection) -> Result<i64, Error> {
    let mut statement = db.prepare_cached("PRAGMA data_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn sql(db: &Connection, sql: &str) -> Result<(), Error> {
    Ok(db.prepare_cached(sql)?.execute([]).map(|_| ())?)
}

/// Closures that share a transaction.
pub(super) struct Group {
    cache: Cache,
    /// Rows that the connection had changed before.
    written: u64,
    /// How to answer those that wait for the commit.
    done: Vec<Answer>,
    /// There was no room for what one of them wrote.
    is_full: bool,
}

/// What became of one closure.
enum Ran {
    /// It waits for the commit, and then for this.
    Kept(Answer),
    /// It failed by itself and was answered.
    Undone,
    /// The same, because there was no room for what it wrote.
    NoRoom,
}
