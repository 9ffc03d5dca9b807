//! `/proc/sysvipc`: what there is of System V IPC, sysvipc(7).

use crate::fs::pseudo::Fixed;
use crate::ipc::{Ipc, Object as _};
use alloc::format;
use alloc::string::String;

pub(super) fn root() -> Fixed {
    Fixed::default()
        .text("shm", |task| Ok(segments(&task.spaces().ipc.holds).into_bytes()))
        .text("sem", |task| Ok(semaphores(&task.spaces().ipc.holds).into_bytes()))
        .text("msg", |task| Ok(messages(&task.spaces().ipc.holds).into_bytes()))
}

fn segments(ipc: &Ipc) -> String {
    let mut text = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    let all = ipc.segments.lock().all();
    for segment in all {
        let (perm, last) = (*segment.perm().lock(), *segment.last.lock());
        text.push_str(&format!(
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}\n",
            perm.key,
            perm.id,
            perm.mode,
            segment.size,
            segment.creator,
            last.pid,
            segment.attached(),
            perm.owner.0,
            perm.owner.1,
            perm.creator.0,
            perm.creator.1,
            last.attached,
            last.detached,
            last.changed,
            segment.memory.allocated(),
            0
        ));
    }
    text
}

fn semaphores(ipc: &Ipc) -> String {
    let mut text = String::from("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    let all = ipc.semaphores.sets.lock().all();
    for set in all {
        let (perm, (operated, changed)) = (*set.perm().lock(), set.times());
        text.push_str(&format!(
            "{:10} {:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {:10} {:10}\n",
            perm.key,
            perm.id,
            perm.mode,
            set.len(),
            perm.owner.0,
            perm.owner.1,
            perm.creator.0,
            perm.creator.1,
            operated,
            changed
        ));
    }
    text
}

fn messages(ipc: &Ipc) -> String {
    let mut text = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    let all = ipc.messages.queues.lock().all();
    for queue in all {
        let (perm, told) = (*queue.perm().lock(), queue.told());
        text.push_str(&format!(
            "{:10} {:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}\n",
            perm.key,
            perm.id,
            perm.mode,
            told.cbytes,
            told.qnum,
            told.lspid,
            told.lrpid,
            perm.owner.0,
            perm.owner.1,
            perm.creator.0,
            perm.creator.1,
            told.stime,
            told.rtime,
            told.ctime
        ));
    }
    text
}
