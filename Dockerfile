# The worker, and with another command any `skillcore ...`: docker run IMAGE skillcore topics check
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /venv
COPY pyproject.toml README.md LICENSE ./
COPY kafka ./kafka
COPY skillcore_streams ./skillcore_streams
RUN /venv/bin/pip install --no-cache-dir .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/skillcore skillcore
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SKILLCORE_WEB_HOST=0.0.0.0 \
    SKILLCORE_DATADIR=/var/lib/skillcore/faust
USER skillcore
WORKDIR /var/lib/skillcore
EXPOSE 6066
# Alive is not ready: a worker that waits for Postgres is alive, and restarting it would not help.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/livez', timeout=2)"]
CMD ["faust", "-A", "skillcore_streams", "worker", "-l", "info"]
