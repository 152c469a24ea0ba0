"""What a job can do to the pool's descriptors and to its process group."""

from __future__ import annotations

from asyncio.subprocess import PIPE
from pathlib import Path

from tests.worker.pool.running import result
from tests.worker.pool.scripts import started
from worker.pool import Pool


async def test_prints_harm_nothing_and_go_to_standard_error(tmp_path: Path) -> None:
    script = (
        "import asyncio\n"
        "from twolane import wire\n"
        "from worker.pool import Pool\n"
        "async def main():\n"
        "    async with Pool(1, ['tests.worker.pool_jobs']) as pool:\n"
        "        ran = await pool.run('talk', wire.dumps([[], {}]))\n"
        "        print('ok' if ran.ok else ran.error)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )

    async with started(script, tmp_path, stdout=PIPE, stderr=PIPE) as process:
        out, err = await process.communicate()

    assert out == b"ok\n"
    assert err.splitlines() == [b"said with print", b"said to descriptor 1", b"said by a child"]


async def test_a_copy_that_a_job_forked_answers_nothing(pool: Pool) -> None:
    for number in range(3):
        assert await result(pool, "fork_and_return") == "original"
        assert await result(pool, "echo", number) == number


async def test_programs_that_a_job_starts_inherit_no_descriptor_of_the_pool(pool: Pool) -> None:
    # 3 is the directory that ls reads.
    assert set(await result(pool, "inherited_descriptors")) <= {0, 1, 2, 3}


async def test_each_process_leads_a_group_of_its_own(pool: Pool) -> None:
    pid, group = await result(pool, "own_group")

    assert pid == group
