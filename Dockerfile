# The service in a container, for CPUs and GPUs. The steps are those of the Makefile.
#
#   docker build -t hubert-ecg .
#   docker run --stop-timeout 630 -p 127.0.0.1:8000:8000 -v $PWD/runs/demo/classifier:/checkpoint:ro hubert-ecg
#   docker run --gpus all -e SERVE_FLAGS="--set gpus_per_replica=1" -p ... hubert-ecg      # on a GPU
#
# --stop-timeout: what was accepted is finished before the service ends (drain_s in serve/settings.py, 600 s at most), where
# Docker would kill it after 10 s.
#
# Ray keeps its objects in /dev/shm: give it room with --shm-size=2g. With the port open to others, set keys
# (-e HUBERT_ECG_API_KEYS=name:key) and put a proxy with TLS in front.
FROM python:3.11-slim-bookworm

# make runs the steps, KubeRay asks its pods how they are with wget, libgomp is what torch and scikit-learn compute with,
# libsndfile reads FLAC.
RUN apt-get update && apt-get install -y --no-install-recommends make wget libgomp1 libsndfile1 && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY Makefile pyproject.toml constraints.txt README.md ./
COPY hubert_ecg ./hubert_ecg
COPY jobs ./jobs
COPY serve ./serve
COPY tune_spaces ./tune_spaces

# PyPI's torch holds CUDA and runs on CPUs too. A smaller image: --build-arg PIP_EXTRA_INDEX_URL=<index of CPU builds>.
ARG PIP_EXTRA_INDEX_URL
RUN make install PYTHON=python3.11
# KubeRay and `ray job submit` start `ray` and `python` by name, also from login shells, which set the path anew.
ENV PATH=/app/.venv/bin:$PATH
RUN echo 'PATH=/app/.venv/bin:$PATH' > /etc/profile.d/venv.sh

# Nothing of the service needs root.
RUN useradd --create-home ecg
USER ecg
ENV HOST=0.0.0.0 CHECKPOINT=/checkpoint SERVE_FLAGS=""
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --start-period=120s CMD [".venv/bin/python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/ready').raise_for_status()"]
CMD ["make", "serve"]
