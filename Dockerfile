# The emulator in a container: docker compose up, or
#   docker build -t imds-emulator . && docker run --rm -p 127.0.0.1:16925-16927:16925-16927 imds-emulator
FROM python:3.13-slim

COPY pyproject.toml hatch_build.py README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir '/source[emulator]' && rm -rf /source

# In the container it listens on all interfaces. Publish its ports on 127.0.0.1 only.
ENV IMDS_EMULATOR_HOST=0.0.0.0
ENV IMDS_EMULATOR_ADMIN_HOST=0.0.0.0
ENV IMDS_EMULATOR_ALLOW_REMOTE=on
ENV IMDS_EMULATOR_ALLOW_HOST=imds
ENV IMDS_EMULATOR_STATE=/state

RUN useradd --system --uid 16925 emulator && install -d -o emulator /state
USER emulator
VOLUME /state
EXPOSE 16925 16926 16927
HEALTHCHECK --interval=2s --start-period=5s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:16925/health')"]
ENTRYPOINT ["imds-identity", "emulator"]
