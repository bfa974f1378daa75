"""What no tag names any more is not run; what was pushed by digest or asked for is."""

from __future__ import annotations

from tests.kit.access import ask
from tests.kit.distribution import push_image
from tests.kit.images import make_index
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, make_error, tiny_image, tiny_index


async def test_a_tag_that_moved_on_leaves_nothing_to_try(port: Port) -> None:
    old, new = [await port.push(tiny_image()) for _ in range(2)]
    worker = await port.worker("one")
    assert await _claimed(worker) == [new]
    (trial,) = await port.trials(old)
    assert (trial["state"], trial["verdict"]) == ("done", "error")
    assert trial["reason"].startswith("dropped: ")
    assert await port.state(old) == "error"
    assert (await port.pull(old)).status == 403
    # Back to it, and it is tried; so it is when it is pushed again.
    await _roll_back(port, "1", old)
    assert await port.state(old) == "pending"
    assert await _claimed(worker) == [old]


async def test_what_is_deleted_or_pushed_again(port: Port) -> None:
    image = tiny_image()
    gone, kept = await port.push(image), await port.push(tiny_image(), tag="kept")
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/1")).status == 202
    deleted = await port.push(tiny_image(), tag="deleted")
    assert (await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{deleted}")).status == 202
    worker = await port.worker("one")
    assert await _claimed(worker) == [kept]
    assert await port.push(image, tag="2") == gone
    assert await port.state(gone) == "pending"
    assert await _claimed(worker) == [gone]


async def test_what_was_pushed_by_digest_or_asked_for_is_tried(port: Port) -> None:
    image = tiny_image()
    by_digest = await push_image(port.admin, REPOSITORY, image.digest, image)
    asked = await port.push(tiny_image())
    body = {"image": f"{REPOSITORY}@{asked}"}
    assert (await ask(port.admin, "POST", "/api/v1/trials", json=body)).status == 201
    newer = await port.push(tiny_image())
    assert await _claimed(await port.worker("one")) == [by_digest, asked, newer]


async def test_what_was_pushed_by_digest_as_well_is_tried(port: Port) -> None:
    images = [tiny_image() for _ in range(2)]
    waits = await port.push(images[0])
    assert await push_image(port.admin, REPOSITORY, waits, images[0]) == waits
    dropped = await port.push(images[1])
    newer = await port.push(tiny_image())
    worker = await port.worker("one")
    assert await _claimed(worker) == [waits, newer]
    assert await port.state(dropped) == "error"
    # Afterwards it is no other than before.
    await push_image(port.admin, REPOSITORY, dropped, images[1])
    assert await port.state(dropped) == "pending"
    assert await _claimed(worker) == [dropped]


async def test_an_index_of_which_one_image_was_dropped(port: Port) -> None:
    """The reason of the whole is that of the first one without a verdict."""
    # They are pushed in this order, and told in it.
    children = sorted((tiny_image() for _ in range(2)), key=lambda image: image.digest)
    index = make_index(*children)
    await port.push(index)
    worker = await port.worker("one")
    job = await worker.claim()
    assert (await worker.report(job, **make_error("spec-invalid"))).status == 204
    newer = await port.push(tiny_image())
    assert await _claimed(worker) == [newer]
    (trial,) = await port.trials(index.digest)
    assert [part["reason"].startswith("dropped: ") for part in trial["parts"]] == [False, True]
    assert "dropped" not in trial["reason"]
    await _roll_back(port, "1", index.digest)
    assert sorted(await _claimed(worker)) == sorted(child.digest for child in children)


async def test_what_no_worker_is_given_is_dropped_as_well(port: Port) -> None:
    large, blocked = [await port.push(tiny_image(), tag=tag) for tag in ("large", "blocked")]
    refuse = {"image": f"{REPOSITORY}@{blocked}", "reason": "it leaks"}
    assert (await ask(port.admin, "POST", "/api/v1/gate/block", json=refuse)).status == 204
    for tag in ("large", "blocked"):
        await port.push(tiny_image(), tag=tag)
    worker = await port.worker("one")
    assert await worker.claim(disk_bytes=0, disk_most_bytes=1 << 40) is None
    for digest in (large, blocked):
        (trial,) = await port.trials(digest)
        assert trial["reason"].startswith("dropped: ")


async def test_images_of_an_index_are_named_by_it(port: Port) -> None:
    worker = await port.worker("one")
    pushed = [tiny_index("linux/amd64", "linux/arm64") for _ in range(3)]
    await port.push(pushed[0][0])
    assert await _claimed(worker) == [pushed[0][1][0].digest]
    for index, _ in pushed[1:]:
        await port.push(index)
    # Its images went to the queue with the index that the tag has left, and are dropped with it.
    assert await _claimed(worker) == [pushed[2][1][0].digest]
    assert await port.state(pushed[1][0].digest) == "error"
    assert await port.state(pushed[1][1][0].digest) == "error"
    assert await port.state("1") == "pass"
    await _roll_back(port, "1", pushed[1][0].digest)
    assert await _claimed(worker) == [pushed[1][1][0].digest]
    assert await port.state("1") == "pass"


async def _claimed(worker: ScriptedWorker) -> list[str]:
    """The images that a worker is given until there is none, each of which passes."""
    digests = []
    while (job := await worker.claim()) is not None:
        digests.append(job["digest"])
        assert (await worker.report(job)).status == 204
    return digests


async def _roll_back(port: Port, tag: str, digest: str) -> None:
    where = f"/api/v1/repositories/{REPOSITORY.replace('/', '%2F')}/tags/{tag}/rollback"
    answer = await ask(port.admin, "POST", where, json={"to": digest})
    assert answer.status == 200, answer.body
