//! `/proc/sysvipc`: what there is of System V IPC, sysvipc(7).

use crate::fs::pseudo::Fixed;
use crate::ipc::Object as _;
use crate::task::Task;
use alloc::format;
use alloc::string::String;

pub(super) fn root() -> Fixed {
    Fixed::default()
        .text("shm", |task| Ok(segments(task).into_bytes()))
        .text("sem", |task| Ok(semaphores(task).into_bytes()))
        .text("msg", |task| Ok(messages(task).into_bytes()))
}

fn segments(task: &Task) -> String {
    let mut text = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    let all = task.spaces().ipc.holds.segments.lock().all();
    for segment in all {
        let (own, last) = (*segment.perm().lock(), *segment.last.lock());
        let perm = own.to_abi(task);
        text.push_str(&format!(
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}\n",
            perm.key,
            own.id,
            perm.mode,
            segment.size,
            task.name_of(segment.creator),
            task.name_of(last.pid),
            segment.attached(),
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            last.attached,
            last.detached,
            last.changed,
            segment.memory.allocated(),
            0
        ));
    }
    text
}

fn semaphores(task: &Task) -> String {
    let mut text = String::from("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    let all = task.spaces().ipc.holds.semaphores.sets.lock().all();
    for set in all {
        let (own, (operated, changed)) = (*set.perm().lock(), set.times());
        let perm = own.to_abi(task);
        text.push_str(&format!(
            "{:10} {:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {:10} {:10}\n",
            perm.key,
            own.id,
            perm.mode,
            set.len(),
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            operated,
            changed
        ));
    }
    text
}

fn messages(task: &Task) -> String {
    let mut text = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    let all = task.spaces().ipc.holds.messages.queues.lock().all();
    for queue in all {
        let (own, told) = (*queue.perm().lock(), queue.told());
        let perm = own.to_abi(task);
        text.push_str(&format!(
            "{:10} {:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}\n",
            perm.key,
            own.id,
            perm.mode,
            told.cbytes,
            told.qnum,
            task.name_of(told.lspid),
            task.name_of(told.lrpid),
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            told.stime,
            told.rtime,
            told.ctime
        ));
    }
    text
}
