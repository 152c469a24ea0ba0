# syntax-free on purpose: any builder makes it.
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN python -m venv /opt/twolane
# What changes seldom comes first: editing the project does not install its dependencies anew.
COPY requirements/run.txt requirements/run.txt
RUN /opt/twolane/bin/pip install --require-hashes --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY twolane twolane
COPY worker worker
COPY producer producer
RUN /opt/twolane/bin/pip install --no-deps --no-build-isolation . \
 && /opt/twolane/bin/pip uninstall --yes --quiet hatchling editables pip

FROM python:3.13-slim

RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin twolane
COPY --from=build /opt/twolane /opt/twolane
ENV PATH=/opt/twolane/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER twolane
WORKDIR /srv
ENTRYPOINT ["twolane"]
CMD ["--help"]
