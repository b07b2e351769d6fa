//! Several runs that share a table's partitions, as a table may have that lets several writers in.

use std::thread::sleep;
use std::time::Duration;

use super::disturb::{end, share_of, wait_for};
use super::left::Lake;
use super::plan::{Fault, Plan};
use super::process::{Process, Signal};
use super::random::Random;
use super::table::{SESSION, Table};

/// The logs of runs that are there at the same time.
const LOGS: [&str; 3] = ["run.log", "run-2.log", "run-3.log"];
/// How often one comes or goes in a trial.
const TURNS: usize = 6;

/// Starts runs and disturbs them. All that were not killed must be there in the end, and end well.
pub(super) fn strike(table: &Table<'_>, plan: &Plan, lake: &Lake) -> anyhow::Result<()> {
    let mut random = Random::new(plan.stream, 1);
    let mut runs = match plan.fault {
        Fault::MembersComeAndGo => return come_and_go(table, &mut random),
        // The others join later.
        Fault::RebalanceInCommit => vec![table.run(LOGS[0])?],
        _ => start(table, plan.members)?,
    };
    let one = random.within(0..runs.len() as u64) as usize;
    wait_for(table, plan, lake, &mut runs[one])?;
    match plan.fault {
        Fault::KillMember => {
            runs.remove(one).kill()?;
            // Until the group gives it up, or not.
            if random.percent(30) {
                sleep(SESSION + share_of(table, plan.then));
            }
        }
        Fault::RebalanceInCommit => {
            // It is stopped where the plan wanted it.
            runs.push(table.run(LOGS[1])?);
            let longest = if random.percent(30) { 2 * SESSION } else { table.pace() };
            sleep(random.micros(0..longest.as_micros() as u64));
            runs[one].signal(Signal::Cont)?;
            sleep(table.pace());
        }
        _ => {
            runs[one].signal(Signal::Stop)?;
            sleep(SESSION + Duration::from_secs(1) + share_of(table, plan.then));
            runs[one].signal(Signal::Cont)?;
            sleep(share_of(table, plan.then));
        }
    }
    end_all(runs)
}

/// Runs join, leave, and are killed, at any moment.
fn come_and_go(table: &Table<'_>, random: &mut Random) -> anyhow::Result<()> {
    let mut places: [Option<Process>; LOGS.len()] = [Some(table.run(LOGS[0])?), None, None];
    for _ in 0..TURNS {
        // So long that a run which has begun can be asked to end.
        sleep(share_of(table, random.within(500..1_200)));
        let place = random.within(0..LOGS.len() as u64) as usize;
        places[place] = match places[place].take() {
            None => Some(table.run(LOGS[place])?),
            Some(mut run) if random.percent(40) => {
                run.kill()?;
                None
            }
            Some(run) => {
                end(run)?;
                None
            }
        };
    }
    end_all(places.into_iter().flatten().collect())
}

fn start(table: &Table<'_>, runs: u64) -> anyhow::Result<Vec<Process>> {
    LOGS.iter().take(runs as usize).map(|log| table.run(log)).collect()
}

fn end_all(runs: Vec<Process>) -> anyhow::Result<()> {
    runs.into_iter().try_for_each(end)
}
