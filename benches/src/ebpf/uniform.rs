//! Traffic in equal shares from many peers to one and to many endpoints.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::HashSet;
use std::io::Write;
use std::time::Instant;

use portcullis::backend::{DesiredState, Lower as _};
use portcullis::ebpf::oracle::{Draws, Sandbox, Tracking};
use portcullis::ebpf::{Capacity, Lowering, Options};
use portcullis::model::Update;

use super::OBJECT;
use super::bytes::{megabytes, open_maps, since};
use super::report::Table;
use super::run::{Effort, Run};
use super::tries::Tries;
use super::world::{CLASSES, Crowd, Family, GROUP, PODS, PORTS, Workload, class_of};
use crate::measure::Times;
use crate::nftables::Failure;
use crate::nftables::world::policy;

const PEERS: [usize; 3] = [256, 4_096, 65_536];
/// The table of IPv6 flows holds no more.
const FLOWS: [usize; 3] = [256, 4_096, 32_768];
const EFFORT: Effort = Effort { rounds: 7, time: Duration::from_millis(40), least: 100_000 };

pub(super) fn run(out: &mut dyn Write) -> Result<(), Failure> {
    let crowd = Crowd::new()?;
    let classes: HashSet<_> = crowd.compiler.snapshot().addresses.values().collect();
    writeln!(
        out,
        "ebpf uniform: {PODS} pods of {} classes known; {GROUP} endpoints with a policy of their own each and {GROUP} replicas of one, each with {} ports open to a quarter of the classes each",
        classes.len(),
        PORTS.len()
    )?;
    // A policy that tells pods apart in a new way gives them new classes while the old ones are still there.
    let capacity = Capacity { classes: 32_768, projections: 512, ..Capacity::default() };
    let options = Options::new().with_capacity(capacity);
    let before = open_maps()?;
    let start = Instant::now();
    let (mut lowering, update) =
        Lowering::load(options, DesiredState::new(crowd.compiler.snapshot(), &crowd.bindings), &())?;
    let lowered = start.elapsed();
    let start = Instant::now();
    let mut ours = Sandbox::of(&lowering, &update)?;
    ours.prepare()?;
    writeln!(
        out,
        "  ours, default capacity, but twice the classes and half the projections: lowered in {:.0} ms, loaded in {:.0} ms with {} writes, {} of maps",
        lowered.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
        update.writes().len(),
        megabytes(since(&before)?)
    )?;
    let before = open_maps()?;
    let start = Instant::now();
    let mut tries = fill(&crowd)?;
    writeln!(
        out,
        "  tries: loaded in {:.0} ms with {} writes, {} of maps (the kernel does not count the inner nodes of tries)",
        start.elapsed().as_secs_f64() * 1e3,
        tries.entries,
        megabytes(since(&before)?)
    )?;
    crowd.check()?;
    let Effort { rounds, time, .. } = EFFORT;
    writeln!(
        out,
        "  ns over drawing a packet, best/median of {rounds} interleaved rounds of {} ms; a quarter of the packets passes; less reading: the ratio of what reading the packet leaves of both",
        time.as_millis()
    )?;
    new_flows(
        &crowd,
        &RefCell::new(Sandbox::measuring(OBJECT, &lowering, &update, Tracking::Untracked)?),
        &RefCell::new(&mut tries),
    )?
    .print(out)?;
    established(&crowd, &RefCell::new(Sandbox::measuring(OBJECT, &lowering, &update, Tracking::Tracked)?))?
        .print(out)?;
    change(out, crowd, &mut lowering, &mut ours, &mut tries)
}

fn new_flows(crowd: &Crowd, ours: &RefCell<Sandbox>, tries: &RefCell<&mut Tries>) -> Result<Table, Failure> {
    let head = ["new flows", "peers", "reading", "ours", "tries", "tries/ours", "less reading"];
    let mut table = Table::new(head);
    let (own, replicas) = crowd.workloads.split_at(usize::try_from(GROUP)?);
    let groups = [
        ("1 endpoint", own.get(..1).unwrap_or_default()),
        ("64 endpoints, replicas", replicas),
        ("64 endpoints, own policies", own),
    ];
    for family in Family::ALL {
        for (name, to) in groups {
            for peers in PEERS {
                let draws = Crowd::draws(family, &Crowd::pods(peers), to)?;
                let label = format!("{}, {name}", family.name());
                let row =
                    new_flow(&draws, ours, tries).map_err(|error| format!("{label}, {peers}: {error}"))?;
                table.row([label, peers.to_string()].into_iter().chain(row));
            }
        }
    }
    Ok(table)
}

/// The figures of one line.
fn new_flow(
    draws: &Draws,
    ours: &RefCell<Sandbox>,
    tries: &RefCell<&mut Tries>,
) -> Result<[String; 5], Failure> {
    ours.borrow_mut().draw(draws)?;
    tries.borrow_mut().draw(draws)?;
    let mut run = Run::default();
    let nothing = run.add(|repeat| Ok(ours.borrow_mut().time_drawn_nothing(draws, repeat)?));
    let verdict = run.add(|repeat| {
        let time = ours.borrow_mut().time_drawn(draws, repeat);
        time.map_err(|error| format!("ours: {error}").into())
    });
    let no_trie = run.add(|repeat| tries.borrow_mut().time_drawn_nothing(draws, repeat));
    let reading = run.add(|repeat| tries.borrow_mut().time_drawn_parsed(draws, repeat));
    let in_tries = run.add(|repeat| {
        let time = tries.borrow_mut().time_drawn(draws, repeat);
        time.map_err(|error| format!("tries: {error}").into())
    });
    run.measure(EFFORT)?;
    let [ours, reading, rival] = [(verdict, nothing), (reading, no_trie), (in_tries, no_trie)]
        .map(|(index, less)| run.over(index, less));
    Ok([
        reading.to_string(),
        ours.to_string(),
        rival.to_string(),
        format!("{:.1}x", rival.best / ours.best),
        format!("{:.1}x", (rival.best - reading.best) / (ours.best - reading.best)),
    ])
}

/// Flows that were allowed before.
fn established(crowd: &Crowd, ours: &RefCell<Sandbox>) -> Result<Table, Failure> {
    let mut table = Table::new(["established flows", "flows", "ours"]);
    let (_, replicas) = crowd.workloads.split_at(usize::try_from(GROUP)?);
    for family in Family::ALL {
        for flows in FLOWS {
            let draws = Crowd::flows(family, flows, replicas)?;
            ours.borrow_mut().draw(&draws)?;
            let mut run = Run::default();
            let nothing = run.add(|repeat| Ok(ours.borrow_mut().time_drawn_nothing(&draws, repeat)?));
            let verdict = run.add(|repeat| Ok(ours.borrow_mut().time_drawn(&draws, repeat)?));
            run.measure(EFFORT)?;
            table.row([family.name().to_owned(), flows.to_string(), run.over(verdict, nothing).to_string()]);
        }
    }
    Ok(table)
}

/// The same policy as tries.
fn fill(crowd: &Crowd) -> Result<Tries, Failure> {
    let mut tries = Tries::new()?;
    for pod in 0..PODS {
        for family in Family::ALL {
            tries.identify(family.peer(pod), class_of(pod))?;
        }
    }
    let allow = |tries: &mut Tries, workload: &Workload| -> Result<(), Failure> {
        for port in PORTS {
            for class in (0..CLASSES).filter(|class| workload.lets(*class, port)) {
                tries.allow(workload.interface.into(), class, port)?;
            }
        }
        Ok(())
    };
    crowd.workloads.iter().try_for_each(|workload| allow(&mut tries, workload))?;
    Ok(tries)
}

/// A policy more on one endpoint, for peers that another policy selects too, and for peers that none selects; and what tries
/// write for the same.
fn change(
    out: &mut dyn Write,
    mut crowd: Crowd,
    lowering: &mut Lowering,
    ours: &mut Sandbox,
    tries: &mut Tries,
) -> Result<(), Failure> {
    let (endpoint, other) = crowd.workloads.first().zip(crowd.workloads.get(1)).ok_or("no workload")?;
    let interface = endpoint.interface.into();
    let quarter = (1..CLASSES).filter(|class| other.lets(*class, PORTS[0])).collect();
    let half = (1..CLASSES).filter(|class| class & 1 == 1).collect();
    let cases: [(&str, String, Vec<usize>); 2] = [
        ("a quarter of the classes, by a selector in use", other.selector(), quarter),
        ("half of the classes, by a selector of its own", "b0 == '1'".to_owned(), half),
    ];
    writeln!(out, "  a policy more on one endpoint, the commit aside")?;
    for (name, selector, classes) in cases {
        let (mut in_ours, mut in_tries) = (Times::default(), Times::default());
        let mut writes = 0;
        for round in 0..10_u16 {
            let port = round.saturating_add(7_000);
            let more = policy("more", "app == 'app-0'", &selector, port)?;
            let Update::Policy(added) = &more else { return Err("no policy".into()) };
            let id = added.id.clone();
            let mut follow = |update: Update| -> Result<(f64, usize), Failure> {
                crowd.compiler.apply(update).map_err(|error| error.to_string())?;
                let delta = crowd.compiler.commit();
                let start = Instant::now();
                let update =
                    lowering.update(DesiredState::new(crowd.compiler.snapshot(), &crowd.bindings), &delta)?;
                ours.carry_out(&update)?;
                let time = start.elapsed().as_secs_f64() * 1e6;
                ours.carry_out(&lowering.quiesce())?;
                Ok((time, update.writes().len()))
            };
            let (time, written) = follow(more)?;
            in_ours.push(time);
            writes = writes.max(written);
            follow(Update::RemovePolicy(id))?;
            let start = Instant::now();
            classes.iter().try_for_each(|class| tries.allow(interface, *class, port))?;
            in_tries.push(start.elapsed().as_secs_f64() * 1e6);
            classes.iter().try_for_each(|class| tries.forbid(interface, *class, port))?;
        }
        writeln!(out, "    {name}")?;
        writeln!(out, "      ours: {}, at most {writes} writes", in_ours.summary("us"))?;
        writeln!(out, "      tries: {}, {} writes", in_tries.summary("us"), classes.len())?;
    }
    Ok(())
}
