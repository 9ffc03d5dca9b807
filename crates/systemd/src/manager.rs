//! The calls of systemd's that a container needs. Source: `org.freedesktop.systemd1(5)`.
//!
//! What starts or stops a unit is a job: the call answers with the job's path at once, and a signal tells how the job ended.

use crate::bus::Bus;
use crate::message::{Call, Message, own_context};
use crate::properties::Properties;
use crate::{Error, Result};
use insula_spec::plan::Scope;
use serde::Serialize;
use std::time::{Duration, Instant};
use zbus::wire::DynamicType;
use zbus::{ObjectPath, Variant};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// What systemd calls a unit it doesn't have.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// How long a job may take: a scope whose processes are dead is stopped at once, but a host that has much to do is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A unit that is named beside another; none is.
type Auxiliary<'a> = Vec<(&'a str, Properties)>;

/// A connection to systemd: the host's, or a user's own.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
}

impl Manager {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn connect(of_user: bool) -> Result<Manager> {
        Bus::connect(of_user).map(|bus| Manager { bus })
    }

    /// The cgroup below which it makes those of its units, from the root of the hierarchy; empty for the root itself.
    ///
    /// # Errors
    /// The call fails.
    pub fn control_group(&mut self) -> Result<String> {
        let call = Call { interface: "org.freedesktop.DBus.Properties", method: "Get", signature: "ss", ..CALL };
        let answer = self.call("say where its cgroups are", &call, &(INTERFACE, "ControlGroup"))?;
        match answer.body().deserialize::<Variant>() {
            Ok((Variant::Str(path), _)) => Ok(path.to_string()),
            _ => Err(unexpected("say where its cgroups are")),
        }
    }

    /// Whether there is a unit of this name.
    ///
    /// # Errors
    /// The call fails.
    pub fn has(&mut self, unit: &str) -> Result<bool> {
        let found = self.call(&format!("look for {unit}"), &Call { method: "GetUnit", signature: "s", ..CALL }, unit);
        match found {
            Ok(_) => Ok(true),
            Err(Error::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a scope around a process, with limits; it is in the scope's cgroup on return.
    ///
    /// # Errors
    /// The call fails, or the job does.
    pub fn start(&mut self, scope: &Scope, description: &str, process: u32, limits: Properties) -> Result<()> {
        let what = format!("make {}", scope.unit);
        let mut properties: Properties = vec![
            ("Description", Variant::from(description.to_owned())),
            ("Slice", Variant::from(scope.slice.clone())),
            // The cgroup is ours to write to, and to make others in.
            ("Delegate", Variant::from(true)),
            // Neither ordered before the end of the whole system's start nor stopped when it goes down before its maker.
            ("DefaultDependencies", Variant::from(false)),
            // Forgotten when the last process has ended, however that was.
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("PIDs", Variant::from(vec![process])),
        ];
        properties
            .extend(["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"].map(|name| (name, true.into())));
        properties.extend(limits);
        let call = Call { method: "StartTransientUnit", signature: "ssa(sv)a(sa(sv))", ..CALL };
        self.job(&what, &call, &(scope.unit.as_str(), "fail", properties, Auxiliary::new()))
    }

    /// Changes a unit's properties until it ends.
    ///
    /// # Errors
    /// The call fails.
    pub fn set(&mut self, unit: &str, properties: Properties) -> Result<()> {
        let call = Call { method: "SetUnitProperties", signature: "sba(sv)", ..CALL };
        self.call(&format!("change {unit}"), &call, &(unit, true, properties)).map(drop)
    }

    /// Stops a unit and has it forgotten; one that isn't there is no error.
    ///
    /// # Errors
    /// The call fails, or the job does.
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        let stop = Call { method: "StopUnit", signature: "ss", ..CALL };
        let reset = Call { method: "ResetFailedUnit", signature: "s", ..CALL };
        let there = |result: Result<()>| match result {
            Err(Error::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
            result => result,
        };
        there(self.job(&format!("stop {unit}"), &stop, &(unit, "replace")))?;
        there(self.call(&format!("forget {unit}"), &reset, unit).map(drop))
    }

    fn call<T: Serialize + DynamicType + ?Sized>(&mut self, what: &str, call: &Call, arguments: &T) -> Result<Message> {
        let body = zbus::wire::to_bytes(own_context(), arguments);
        let body = body.map_err(|error| Error::Bus { what: what.into(), problem: error.to_string() })?;
        self.bus.call(what, call, body.bytes())
    }

    /// Calls what answers with a job, and waits until that is done.
    fn job<T: Serialize + DynamicType>(&mut self, what: &str, call: &Call, arguments: &T) -> Result<()> {
        self.listen(what)?;
        let answer = self.call(what, call, arguments)?;
        let answer = answer.body();
        let job = answer.deserialize::<ObjectPath>().map_err(|_| unexpected(what))?.0;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let signal = self.bus.signal(what)?;
            if signal.member != "JobRemoved" {
                continue;
            }
            let body = signal.body();
            let (_, path, _, result): (u32, ObjectPath, String, String) = body.deserialize().map_err(|_| unexpected(what))?.0;
            if path == job {
                return if result == "done" { Ok(()) } else { Err(failed(what, &result)) };
            }
        }
        Err(failed(what, "timeout"))
    }

    /// Has the bus pass on how jobs end, and systemd tell it.
    fn listen(&mut self, what: &str) -> Result<()> {
        const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
            interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        let add = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            method: "AddMatch",
            signature: "s",
        };
        self.call(what, &add, MATCH)?;
        let subscribed = self.call(what, &Call { method: "Subscribe", ..CALL }, &());
        match subscribed {
            // By this connection, before.
            Err(Error::Refused { name, .. }) if name.ends_with(".AlreadySubscribed") => Ok(()),
            subscribed => subscribed.map(drop),
        }
    }
}

const CALL: Call = Call { destination: NAME, path: PATH, interface: INTERFACE, method: "", signature: "" };

fn failed(what: &str, result: &str) -> Error {
    let message = format!("the job ended with {result:?}; `journalctl -b` may say why");
    Error::Refused { what: what.into(), name: "JobRemoved".into(), message }
}

fn unexpected(what: &str) -> Error {
    Error::Bus { what: what.into(), problem: "the answer isn't of the documented type".into() }
}
